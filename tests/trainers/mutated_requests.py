"""Requests to an exported video network that are wrong in some way, or large."""

import numpy as np

_TYPES = (np.uint8, np.float32, np.int32, np.int64, np.float64, bool)


def valid_requests(num_frames=4, side=40):
    """An input of each signature: `{signature: {name: array}}`."""
    import tensorflow as tf

    shape = (1, num_frames, side, side, 3)
    clips = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    frames = [[tf.io.encode_jpeg(frame).numpy() for frame in clips[0]]]
    positions = np.float32([[0, 0, 0], [num_frames - 1, side / 2, side - 1]])
    return {
        "serving_default": {"clips": clips},
        "jpeg": {"frames": np.array(frames, object)},
        "features": {"clips": clips},
        "attention": {"clips": clips, "positions": positions},
    }


def mutated(requests, random):
    """A request `(signature, inputs)`, one of whose inputs is changed at random."""
    signature = random.choice(sorted(requests))
    inputs = dict(requests[signature])
    name = random.choice(sorted(inputs))
    changes = {"clips": _clips, "frames": _frames, "positions": _positions}[name]
    inputs[name] = changes(inputs[name], random)
    return signature, inputs


def _clips(clips, random):
    kind = random.choice(["type", "shape", "rank", "channels", "pixels"])
    if kind == "type":
        return clips.astype(random.choice(_TYPES))
    if kind == "shape":
        sizes = random.choices([0, 1, 2, 3, 9, 33, 60], k=3)
        return np.zeros((random.randrange(4), *sizes, 3), np.uint8)
    if kind == "rank":
        return np.zeros((2,) * random.choice([0, 1, 4, 6]), np.uint8)
    if kind == "channels":
        return np.repeat(clips[..., :1], random.choice([0, 1, 2, 4]), axis=-1)
    return np.frombuffer(random.randbytes(clips.size), np.uint8).reshape(clips.shape)


def _frames(frames, random):
    kind = random.choice(["bytes", "bytes", "cut", "rubbish", "empty", "shape"])
    if kind == "shape":
        shape = random.choice([(0, 4), (1, 0), (4,), (1, 4, 1), (2, 2), (1, 9)])
        return np.resize(frames, shape) if 0 not in shape else np.zeros(shape, object)
    frames, i = frames.copy(), random.randrange(frames.size)
    frame = bytearray(frames.flat[i])
    if kind == "bytes":
        for _ in range(random.choice([1, 5, 50])):
            frame[random.randrange(len(frame))] = random.randrange(256)
    elif kind == "cut":
        frame = frame[: random.randrange(len(frame))]
    else:
        frame = random.randbytes(500) if kind == "rubbish" else b""
    frames.flat[i] = bytes(frame)
    return frames


def _positions(positions, random):
    kind = random.choice(["value", "shape", "type"])
    if kind == "type":
        return positions.astype(random.choice(_TYPES))
    if kind == "shape":
        shape = random.choice([(0, 3), (1, 2), (3,), (1, 1, 3), (70, 3), (7, 3)])
        return np.zeros(shape, np.float32)
    values = [np.nan, np.inf, -np.inf, -0.5, -1, 1e30, 39.5, 40, 0]
    positions = positions.copy()
    positions.flat[random.randrange(positions.size)] = random.choice(values)
    return positions
