"""How query-independent attention is, and which queries are interesting."""

import itertools

import numpy as np
import pytest

from keras_nonlocal.receptive_field import Grid
from keras_nonlocal.visualize import (
    AttentionMaps,
    interesting_queries,
    query_independence,
)

GRID = Grid((2, 3, 4), (0.0, 2.0, 2.0), (1.0, 4.0, 4.0))
KEYS = Grid((2, 3, 4), (0.0, 2.0, 2.0), (1.0, 4.0, 4.0))


def random_maps(seed=0, row_groups=None, key_groups=None):
    rows = np.random.default_rng(seed).dirichlet(np.ones(24), (1, 24))
    maps = AttentionMaps(rows, GRID, KEYS, np.arange(24), row_groups, key_groups)
    if row_groups is not None:
        rows = rows * maps.attends
        maps = maps._replace(scores=rows / rows.sum(axis=2, keepdims=True))
    return maps


def entropy(p):
    return -sum(x * np.log(x) for x in p if x > 0)


@pytest.mark.parametrize("groups", [None, np.arange(24) // 12])
def test_values_are_those_of_the_equations(groups):
    maps = random_maps(row_groups=groups, key_groups=groups)
    rows = maps.scores[0]
    divergences, distances = [], []
    for i, k in itertools.combinations(range(24), 2):
        if groups is None or groups[i] == groups[k]:
            p, q = rows[i], rows[k]
            mixed = entropy((p + q) / 2) - (entropy(p) + entropy(q)) / 2
            divergences.append(mixed / np.log(2))
            cosine = p @ q / np.sqrt((p @ p) * (q @ q))
            distances.append((1 - cosine) / 2)
    num_keys = 24 if groups is None else 12
    entropies = [entropy(p) / np.log(num_keys) for p in rows]
    expected = [np.mean(divergences), np.mean(distances), np.mean(entropies)]
    np.testing.assert_allclose(query_independence(maps), expected, rtol=1e-9)


def test_the_same_attention_for_all_queries_is_independent_of_them():
    row = np.random.default_rng(0).dirichlet(np.ones(24))
    maps = random_maps()._replace(scores=np.tile(row, (1, 24, 1)))
    expected = [0, 0, entropy(row) / np.log(24)]
    np.testing.assert_allclose(query_independence(maps), expected, atol=1e-12)


def test_negative_weights_count_by_their_size_and_their_sign():
    rows = np.array([[[2.0, 0.0, 0.0, 0.0], [-1.0, 0.0, 0.0, 0.0]]])
    grid = Grid((2,), (0.0,), (1.0,))
    found = query_independence(AttentionMaps(rows, grid, grid))
    np.testing.assert_allclose(found, [0, 1, 0], atol=1e-12)


def test_queries_that_share_no_keys_are_not_compared():
    groups = np.arange(24)
    maps = random_maps(row_groups=groups, key_groups=groups)
    found = query_independence(maps)
    assert np.isnan(found.divergence) and np.isnan(found.cosine_distance)
    assert found.entropy == 0


def test_a_query_that_attends_elsewhere_is_interesting():
    rows = np.full((1, 24, 24), 1 / 24)
    rows[0, 5] = np.eye(24)[5]  # to itself
    rows[0, 7] = np.eye(24)[16]  # to another frame
    rows[0, 6] = 0.5 * np.eye(24)[12] + 0.5 / 24
    maps = random_maps()._replace(scores=rows)
    assert interesting_queries(maps, k=2).tolist() == [7, 6]


def test_interesting_queries_are_apart():
    grid = Grid((1, 1, 32), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    rows = np.full((1, 32, 32), 1 / 32)
    for place in (8, 9, 10, 20):
        rows[0, place] = np.eye(32)[31]
    maps = AttentionMaps(rows, grid, grid, np.arange(32))
    chosen = interesting_queries(maps, k=3).tolist()
    assert chosen[:2] == [8, 20]
    assert all(abs(a - b) > 4 for a, b in itertools.combinations(chosen, 2))
    assert len(interesting_queries(maps, k=100)) < 32 / 4
