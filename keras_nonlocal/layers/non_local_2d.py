"""The non-local block for images."""

import keras

from keras_nonlocal.layers.base_non_local import BaseNonLocal


@keras.saving.register_keras_serializable(package="keras_nonlocal")
class NonLocal2D(BaseNonLocal):
    """Non-local block over an image: every position attends to all others.

    z_i = W_z y_i + x_i, with y_i = 1/C(x) sum_j f(x_i, x_j) g(x_j) (Eqs. 1 and
    6); an exact identity at initialisation. `sub_sample` max-pools the keys by 2
    in height and width. For all arguments see `NonLocal3D`; `scope` and
    `group_size` need a time axis, and keep their defaults here.

    Input shape: `(batch, height, width, channels)`. Output shape: the same.

    Example:
    >>> x = keras.random.normal((2, 14, 14, 16))
    >>> y, scores = NonLocal2D()(x, return_attention_scores=True)
    >>> tuple(y.shape), tuple(scores.shape)
    ((2, 14, 14, 16), (2, 196, 49))

    Reference: [Wang et al., 2018](https://arxiv.org/abs/1711.07971)
    """

    rank = 2
