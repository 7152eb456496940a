"""Single rows of the attention map."""

import keras
import numpy as np
import pytest

from keras_nonlocal import NonLocal3D
from tests.backends import assert_close, to_numpy
from tests.layers.blocks import random_block, random_input


@pytest.mark.parametrize(
    "mode", ["gaussian", "embedded_gaussian", "dot_product", "concatenation"]
)
@pytest.mark.parametrize("options", [{}, {"scope": "time"}, {"group_size": 2}], ids=str)
def test_rows_are_those_of_the_whole_map(mode, options):
    layer, x = random_block(mode=mode, **options), random_input()
    z, scores = layer(x, return_attention_scores=True)
    chosen, rows = layer(x, return_attention_scores=True, query_indices=[3, 0])
    assert_close(rows, to_numpy(scores)[..., [3, 0], :].astype("float64"))
    np.testing.assert_array_equal(to_numpy(chosen), to_numpy(z))
    np.testing.assert_array_equal(to_numpy(layer(x)), to_numpy(z))


def test_a_functional_model_knows_the_shape():
    x = keras.Input((4, 6, 6, 8))
    _, scores = NonLocal3D()(x, return_attention_scores=True, query_indices=[1, 2, 5])
    assert scores.shape == (None, 3, 36)


@pytest.mark.parametrize(
    "indices", [[60], [-1], [0.5], [], [[1]], "12"], ids=lambda i: repr(i)
)
def test_rows_that_there_are_not_are_refused(indices):
    layer, x = random_block(), random_input()
    with pytest.raises(ValueError, match="from 0 to 59, positions in row-major order"):
        layer(x, return_attention_scores=True, query_indices=indices)


def test_indices_without_scores_are_refused():
    with pytest.raises(ValueError, match="Pass return_attention_scores=True"):
        random_block()(random_input(), query_indices=[1])
