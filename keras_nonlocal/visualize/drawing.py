"""Attention drawn over frames: arrows (paper, Fig. 3), heat, animations."""

import io
from fractions import Fraction

import numpy as np

_GAP = 4  # pixels between frames


def draw_arrows(frames, source, targets, weights=None, *, labels=None, axes=None):
    """Frames in a row, with arrows from one position to others, as in Fig. 3.

    A position between two frames (after a stride in time) is drawn in the earlier.

    Args:
        frames: Images `(T, H, W, 3)`, uint8, or floats in [0, 1].
        source: `(t, y, x)` of the query, in frames and pixels.
        targets: `(k, 3)`, the same of the keys.
        weights: `(k,)`; stronger connections are drawn more opaque. None: all
            alike.
        labels: A text for each frame, in its upper left corner; None: there is none.
        axes: `matplotlib.axes.Axes`. None: those of a new figure.

    Returns:
        `matplotlib.figure.Figure`; save it with `savefig`.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: Wrong shapes; a position outside the frames.

    Example:
    >>> frames = np.zeros((8, 64, 64, 3), "uint8")
    >>> figure = draw_arrows(frames, (7, 20, 30), [(0, 40, 50)])  # doctest: +SKIP
    >>> figure.savefig("attention.png")  # doctest: +SKIP
    """
    frames = np.asarray(frames)
    points = np.vstack([np.reshape(source, (1, -1)), np.asarray(targets)])
    _check_points(frames, points)
    weights = np.ones(len(points) - 1) if weights is None else np.asarray(weights)
    ends = strip_coordinates(points, frames.shape[2])
    axes = axes or _new_axes(frames.shape)
    _show_strip(axes, frames)
    strengths = np.clip(weights / max(weights.max(), 1e-30), 0, 1)
    for end, weight in zip(ends[1:], strengths, strict=True):
        _add_arrow(axes, ends[0], end, weight)
    axes.plot(*ends[0], "o", color="white", markersize=7, markeredgecolor="black")
    for t, label in enumerate(labels or ()):
        _add_label(axes, t * (frames.shape[2] + _GAP), label)
    return axes.figure


def strip_coordinates(points, frame_width):
    """`(t, y, x)` to `(x, y)` in the row of frames that `draw_arrows` shows."""
    t, y, x = np.asarray(points, float).T
    return np.stack([np.floor(t) * (frame_width + _GAP) + x, y], axis=1)


def draw_heat(frames, row, keys, *, query=None, opacity=0.6):
    """Frames with the attention of one query over them, from black to yellow.

    A frame has the weights of the keys nearest in time; between the centres of keys
    they are interpolated. Colours are relative to the largest weight in all frames;
    negative weights (of dot products) are drawn as 0.

    Args:
        frames: Images `(T, H, W, 3)`, uint8, or floats in [0, 1].
        row: Weights of the keys, `(M,)`: a row of `AttentionMaps.scores[0]`.
        keys: Their `Grid`, `AttentionMaps.keys`.
        query: `(t, y, x)`, where a white cross is drawn; None: there is none.
        opacity: Of the largest weight.

    Returns:
        Images `(T, H, W, 3)`, uint8.

    Raises:
        ValueError: Wrong shapes.

    Example:
    >>> keys = keras_nonlocal.receptive_field.Grid((1, 2, 2), (0, 1.5, 1.5), (1, 4, 4))
    >>> images = draw_heat(np.zeros((1, 8, 8, 3), "uint8"), [1, 0, 0, 0], keys)
    >>> images[0, 1, 1].tolist(), images[0, 6, 6].tolist()
    ([153, 153, 0], [0, 0, 0])
    """
    frames, row = np.asarray(frames), np.asarray(row, float)
    if frames.ndim != 4 or len(keys.shape) != 3 or row.size != np.prod(keys.shape):
        raise ValueError(
            "Expected `frames` (T, H, W, 3) and a `row` with the weight of each of "
            f"the keys {keys.shape}. Received shapes {frames.shape} and {row.shape}."
        )
    images = frames * 255.0 if frames.dtype.kind == "f" else frames.astype(float)
    heat = _interpolate(row.clip(0).reshape(keys.shape), keys, frames.shape[:3])
    heat = (heat / max(row.max(), 1e-30))[..., None]
    colors = 255 * np.concatenate([(2 * heat).clip(0, 1), heat, 0 * heat], axis=-1)
    alpha = opacity * heat
    images = np.rint((1 - alpha) * images + alpha * colors).clip(0, 255).astype("uint8")
    if query is not None:
        _draw_cross(images, query)
    return images


def encode_animation(images, suffix=".gif", frames_per_second=8.0) -> bytes:
    """Images as an animated GIF, or as an MP4 video in H.264.

    Args:
        images: `(T, H, W, 3)` uint8.
        suffix: `".gif"` or `".mp4"`, of the file to be written.
        frames_per_second: Speed.

    Returns:
        The contents of the file.

    Raises:
        ImportError: Pillow (GIF) or PyAV (MP4) is not installed.
        ValueError: Another suffix; wrong images.

    Example:
    >>> encode_animation(np.zeros((2, 8, 8, 3), "uint8"))[:6]
    b'GIF89a'
    """
    images = np.asarray(images)
    if images.ndim != 4 or images.shape[-1] != 3 or images.dtype != np.uint8:
        raise ValueError(
            "Expected `images` as bytes (T, H, W, 3). Received shape "
            f"{images.shape}, dtype {images.dtype}."
        )
    if suffix not in _ENCODERS:
        raise ValueError(f"Expected one of {list(_ENCODERS)}. Received: {suffix!r}.")
    file = io.BytesIO()
    try:
        _ENCODERS[suffix](file, images, frames_per_second)
    except ImportError as error:
        package = {".gif": "pillow", ".mp4": "av"}[suffix]
        raise ImportError(f"{suffix} needs: pip install {package}") from error
    return file.getvalue()


# === Heat ===


def _interpolate(weights, keys, shape):
    """Weights at the pixels of the frames; in time those of the nearest keys."""
    matrices = [
        _nearest_or_linear(n, keys.start[axis], keys.stride[axis], size, axis > 0)
        for axis, (n, size) in enumerate(zip(keys.shape, shape, strict=True))
    ]
    for axis, matrix in enumerate(matrices):
        weights = np.moveaxis(np.tensordot(matrix, weights, (1, axis)), 0, axis)
    return weights


def _nearest_or_linear(count, start, stride, size, is_linear):
    """What each of `size` pixels takes from `count` keys, `(size, count)`."""
    place = ((np.arange(size) - start) / stride).clip(0, count - 1)
    place = place if is_linear else np.rint(place)
    return (1 - np.abs(place[:, None] - np.arange(count))).clip(0, 1)


def _draw_cross(images, query):
    """White, in black: seen on any picture."""
    t, y, x = np.floor(query).clip(0, np.array(images.shape[:3]) - 1).astype(int)
    arm = max(2, min(images.shape[1:3]) // 32)
    for value, width in ((0, 1), (255, 0)):
        length = arm + width
        for up, left in ((length, width), (width, length)):
            rows = slice(max(y - up, 0), y + up + 1)
            images[t, rows, max(x - left, 0) : x + left + 1] = value


# === Files ===


def _encode_gif(file, images, frames_per_second):
    from PIL import Image

    first, *others = map(Image.fromarray, images)
    options = {"duration": 1000 / frames_per_second, "loop": 0}
    first.save(file, "GIF", save_all=True, append_images=others, **options)


def _encode_mp4(file, images, frames_per_second):
    import av

    rate = Fraction(frames_per_second).limit_denominator(1000)
    height, width = (size + size % 2 for size in images.shape[1:3])  # H.264 needs even
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"crf": "18"}
        for image in images:
            odd = ((0, height - image.shape[0]), (0, width - image.shape[1]), (0, 0))
            frame = av.VideoFrame.from_ndarray(np.pad(image, odd, "edge"), "rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


_ENCODERS = {".gif": _encode_gif, ".mp4": _encode_mp4}


# === Arrows ===


def _check_points(frames, points):
    if frames.ndim != 4 or points.ndim != 2 or points.shape[1] != 3:
        raise ValueError(
            "Expected `frames` (T, H, W, channels) and positions (t, y, x). Received "
            f"shapes {frames.shape} and {points.shape}."
        )
    if (points < -0.5).any() or (points > np.array(frames.shape[:3]) - 0.5).any():
        raise ValueError(
            "A position lies outside the frames, (T, H, W) = "
            f"{frames.shape[:3]}. Were they the input that the scores came from?"
        )


def _new_axes(frames_shape):
    """Axes that fill a new figure, in the proportions of the frames in a row."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "Drawing needs matplotlib: pip install matplotlib (or the [train] extra "
            "of keras_nonlocal)."
        ) from error
    num_frames, height, width = frames_shape[:3]
    figure = Figure(figsize=(12, 12 * height / _strip_width(num_frames, width)))
    return figure.add_axes((0, 0, 1, 1))


def _show_strip(axes, frames):
    """Frames side by side, in axes whose unit is a pixel."""
    num_frames, height, width = frames.shape[:3]
    for t, frame in enumerate(frames):
        left = t * (width + _GAP) - 0.5
        axes.imshow(frame, extent=(left, left + width, height - 0.5, -0.5))
    right = _strip_width(num_frames, width) - 0.5
    axes.set(xlim=(-0.5, right), ylim=(height - 0.5, -0.5))
    axes.axis("off")


def _strip_width(num_frames, width):
    return num_frames * (width + _GAP) - _GAP


def _add_label(axes, left, text):
    box = {"boxstyle": "round,pad=0.2", "facecolor": "black", "alpha": 0.6}
    place = {"verticalalignment": "top", "size": 8, "color": "white"}
    offset = {"xytext": (4, -4), "textcoords": "offset points"}
    axes.annotate(text, (left, 0), **offset, **place, bbox=box)


def _add_arrow(axes, start, end, weight):
    style = {"arrowstyle": "-|>", "color": "gold", "linewidth": 1.5}
    style |= {"alpha": 0.25 + 0.75 * float(weight), "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", xy=end, xytext=start, arrowprops=style)
