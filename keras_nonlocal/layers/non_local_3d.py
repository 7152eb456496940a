"""The non-local block for video."""

import keras

from keras_nonlocal.layers.base_non_local import BaseNonLocal


@keras.saving.register_keras_serializable(package="keras_nonlocal")
class NonLocal3D(BaseNonLocal):
    """Space-time non-local block: every position attends to all others.

    z_i = W_z y_i + x_i, with y_i = 1/C(x) sum_j f(x_i, x_j) g(x_j) (Eqs. 1 and
    6), and, writing theta, phi, g and W_z for 1x1x1 convolutions,

    - `mode="gaussian"`: f = exp(x_i . x_j), C = sum_j f (Eq. 2);
    - `"embedded_gaussian"`: f = exp(theta(x_i) . phi(x_j)), C = sum_j f (Eq. 3);
    - `"dot_product"`: f = theta(x_i) . phi(x_j), C = M, the number of keys (Eq. 4);
    - `"concatenation"`: f = ReLU(w_f . [theta(x_i), phi(x_j)]), C = M (Eq. 5).

    An exact identity at initialisation, so that a trained network keeps its
    outputs when blocks are added to it (Sec. 4.1).

    Args:
        mode: Pairwise function f, as above.
        intermediate_channels: Channels of theta, phi and g. None: half of the
            input's.
        sub_sample: Max-pool the keys by 2 in height and width, never in time; an
            odd last row or column is dropped (7x7 keeps 3x3 keys). A map smaller
            than 2x2 is an error at build, or at the call for sizes unknown until
            then. With `scope="time"` it has no effect.
        pool_position: `"before"` phi and g (released code; cheaper) or `"after"`
            them (paper's text, mmcv). The numbers differ.
        use_scale: Multiply the exponent by `intermediate_channels ** -0.5`
            (released code); False is Eq. 3. Embedded Gaussian only.
        use_bias: Biases in theta, phi, g and W_z.
        use_output_bias: Bias in W_z alone. None: as `use_bias`.
        normalization: `"batch"`: batch normalisation after W_z, its gamma
            starting at 0; None: W_z itself starts at 0.
        normalization_options: Dict of arguments for that
            `keras_nonlocal.layers.BatchNormalization`.
        scope: What a position attends to: all of `"spacetime"`, `"space"` (its own
            frame) or `"time"` (its own place in all frames); Table 2d.
        group_size: Attend only among each `group_size` successive frames (long
            clips). The number of frames must be a multiple of it: otherwise an
            error at build, or at the call for sizes unknown until then.
        algorithm: How the pairs are computed; every form gives the same numbers and
            gradients to rounding. `"dense"` builds the (N, M) map; `"linear"`
            (dot product), `"sorted"` (concatenation) and `"chunked"` (Gaussian
            modes) never do. `"auto"` is the fastest in training whose maps fit into
            256 MiB in float32 (`ops.cost.MEMORY_BUDGET`), or for unknown sizes the
            one without maps. `keras_nonlocal.layers.estimate` shows the choice.
        kernel_initializer: For theta, phi, g, W_z and w_f. None: normal with
            standard deviation 0.01 (released code). Each of them draws its own.
        **kwargs: As in `keras.layers.Conv3D`: `bias_initializer`,
            `kernel_regularizer`, `bias_regularizer`, `activity_regularizer`,
            `kernel_constraint`, `bias_constraint`, `data_format`, `dtype`, `name`.
            Under a float16 or bfloat16 policy the softmax is taken in float32.

    Call arguments:
        inputs: Float tensor `(batch, frames, height, width, channels)`, or with
            the channels first. All axes but the channels may be dynamic.
        training: Whether batch normalisation uses the batch's statistics.
        return_attention_scores: Also return f / C, `(batch, N, M)`, with
            N = frames*height*width queries and M keys; `(batch, groups, N, M)` if
            attention is restricted by `scope` or `group_size` (with both,
            `(batch, positions, groups, N, M)`). Memory grows as N*M. The output
            itself is the same with and without.
        query_indices: With `return_attention_scores`, the rows to return, as a list
            of numbers from 0 to N - 1 in row-major order (within each group):
            `(batch, K, M)`, for maps that would not fit as a whole.

    Input shape: `(batch, frames, height, width, channels)`. Output shape: the
    same.

    Weights: sublayers `theta`, `phi`, `g`, `w_z`, `norm` and
    `concat_projection`; kernels are `(input channels, output channels)`, and
    w_f is `(2 * intermediate_channels, 1)` with theta's half first.

    Raises:
        ValueError: Unknown `mode` or other option; not rank 5; undefined
            channels; a map too small to pool; frames that `group_size` does not
            divide.

    Example:
    >>> x = keras.random.normal((2, 8, 14, 14, 64))
    >>> y, scores = NonLocal3D()(x, return_attention_scores=True)
    >>> tuple(scores.shape)
    (2, 1568, 392)

    Reference: [Wang et al., 2018](https://arxiv.org/abs/1711.07971)
    """

    rank = 3
