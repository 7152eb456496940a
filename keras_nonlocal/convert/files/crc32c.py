"""CRC-32C, the checksum of `tf.train` checkpoints, fast without a compiled package.

A message is a polynomial over GF(2) and its checksum is linear in it, so neighbouring
words can be combined in pairs, pairs of pairs, and so on, each level at once in NumPy:
what the left half stands for is the right half's length in zeros away.
"""

import functools

import numpy as np

POLYNOMIAL = 0x82F63B78  # bits reversed
ONES = 0xFFFFFFFF
PREFIX = bytes.fromhex("54641f64")  # takes the checksum from 0 to its start, ONES
LEVELS = 18
CHUNK = 4 << LEVELS  # bytes at a time: bounds the memory


def masked_crc32c(data):
    """What TensorFlow writes: the checksum, rotated and offset.

    Args:
        data: Bytes, or a memoryview of them.

    Example:

    >>> hex(masked_crc32c(b"123456789"))
    '0xc78ab0e5'
    """
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & ONES


def crc32c(data):
    """The checksum as it is in other formats.

    Example:

    >>> hex(crc32c(b"123456789"))
    '0xe3069283'
    """
    head = len(data) % CHUNK
    state = fold(PREFIX + bytes(data[:head]))
    for start in range(head, len(data), CHUNK):
        state = shift(state, LEVELS) ^ fold(data[start : start + CHUNK])
    return int(shift(state, 0)) ^ ONES


def fold(data):
    """All words as one: their sum, each moved by what lies behind it."""
    levels = (-(-len(data) // 4) - 1).bit_length()
    if len(data) < 4 << levels:  # zeros in front change nothing
        data = bytes((4 << levels) - len(data)) + bytes(data)
    words = np.frombuffer(data, "<u4")
    for level in range(levels):
        words = shift(words[::2], level) ^ words[1::2]
    return words[0]


def shift(words, level):
    """Words moved by 4 * 2^level bytes of zeros."""
    low, high = tables(level)
    return low[words & 0xFFFF] ^ high[words >> 16]


@functools.cache
def tables(level):
    """What becomes of each lower and each upper half of a word."""
    bits = np.uint32(1) << np.arange(32, dtype=np.uint32)
    if level:
        moved = shift(shift(bits, level - 1), level - 1)
    else:
        moved = np.array([four_zeros(int(bit)) for bit in bits], np.uint32)
    return spanned(moved[:16]), spanned(moved[16:])


def four_zeros(word):
    for _ in range(32):
        word = word >> 1 ^ (POLYNOMIAL if word & 1 else 0)
    return word


def spanned(moved):
    """The sums of all subsets, in the order of the subsets' bits."""
    sums = np.zeros(1, np.uint32)
    for word in moved:
        sums = np.concatenate([sums, sums ^ word])
    return sums
