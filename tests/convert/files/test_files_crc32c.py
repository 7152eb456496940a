"""The checksum of tf.train checkpoints, against its definition bit by bit."""

import numpy as np
import pytest

from keras_nonlocal.convert.files import crc32c


def by_definition(data):
    state = 0xFFFFFFFF
    for byte in data:
        state ^= byte
        for _ in range(8):
            state = state >> 1 ^ (0x82F63B78 if state & 1 else 0)
    return state ^ 0xFFFFFFFF


@pytest.mark.parametrize("size", [*range(20), 1000, 1023, 1024, 1025, 3333])
def test_checksums_of_all_lengths_and_chunks(size, monkeypatch):
    data = np.random.default_rng(size).bytes(size)
    expected = by_definition(data)
    assert crc32c.crc32c(data) == expected
    monkeypatch.setattr(crc32c, "LEVELS", 4)
    monkeypatch.setattr(crc32c, "CHUNK", 64)
    assert crc32c.crc32c(memoryview(data)) == expected


def test_published_values():
    """RFC 3720, B.4."""
    assert crc32c.crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c.crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c.crc32c(bytes(range(32))) == 0x46DD794E
