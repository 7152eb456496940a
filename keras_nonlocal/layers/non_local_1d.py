"""The non-local block for sequences."""

import keras

from keras_nonlocal.layers.base_non_local import BaseNonLocal


@keras.saving.register_keras_serializable(package="keras_nonlocal")
class NonLocal1D(BaseNonLocal):
    """Non-local block over a sequence: every step attends to all others.

    z_i = W_z y_i + x_i, with y_i = 1/C(x) sum_j f(x_i, x_j) g(x_j) (Eqs. 1 and
    6); an exact identity at initialisation. `sub_sample` max-pools the keys by 2
    along the length. For all arguments see `NonLocal3D`; `scope` and
    `group_size` need time and space, and keep their defaults here.

    Input shape: `(batch, length, channels)`. Output shape: the same.

    Example:
    >>> x = keras.random.normal((2, 50, 16))
    >>> tuple(NonLocal1D(mode="dot_product")(x).shape)
    (2, 50, 16)

    Reference: [Wang et al., 2018](https://arxiv.org/abs/1711.07971)
    """

    rank = 1
