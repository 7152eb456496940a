"""TFRecord files and JPEG images, sound ones and forged ones."""

import struct

import crc32c
import numpy as np
import tensorflow as tf

# Of `write_shards`, for the small videos of the tests.
SETTINGS = dict(short_side=40, quality=95, num_shards=2, workers=1)


def encoded(height=32, width=32, value=90):
    return tf.io.encode_jpeg(np.full((height, width, 3), value, np.uint8)).numpy()


def forged(jpeg, height, width):
    """A JPEG image with another size in its header."""
    start = jpeg.index(b"\xff\xc0") + 5
    return jpeg[:start] + struct.pack(">HH", height, width) + jpeg[start + 4 :]


def masked_checksum(content):
    crc = crc32c.crc32c(content)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def framed(payload, length=None):
    """A record with valid checksums, whatever its length says."""
    header = struct.pack("<Q", len(payload) if length is None else length)
    checksums = (struct.pack("<I", masked_checksum(c)) for c in (header, payload))
    return header + next(checksums) + payload + next(checksums)


def make_record(frames, size=(32, 32), name="v", **parts):
    """A framed record; None is a frame without bytes, `parts` are features of parts."""
    example = tf.train.SequenceExample()
    context = example.context.feature
    context["clip/media_id"].bytes_list.value.append(name.encode())
    for key, side in zip(("image/height", "image/width"), size or (), strict=False):
        context[key].int64_list.value.append(side)
    for key, values in parts.items():
        context[f"parts/{key}"].int64_list.value.extend(values)
    feature = example.feature_lists.feature_list["image/encoded"].feature
    for frame in frames:
        feature.add().bytes_list.value.extend([] if frame is None else [frame])
    return framed(example.SerializeToString())


def write_record(path, frames, size=(32, 32)):
    """Writes a shard of one record, and gives the path of its video."""
    path.write_bytes(make_record(frames, size))
    return f"{path}#0"
