"""Predicts the class of videos with an exported network, without Keras.

    python examples/predict_with_saved_model.py EXPORT_DIR VIDEO [VIDEO ...]

Needs only tensorflow, av and numpy. EXPORT_DIR is the output of `--mode export`, also
on gs://; its highest version is used, as in TF Serving. One clip is taken from the
middle of the video, so scores differ a little from those of all test views. Only the
part of the video that the clip is in is decoded.
"""

import json
import math
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import av
import numpy as np
import tensorflow as tf


def read_middle_clip(path, num_frames, temporal_stride, fps=None):
    """Reads RGB frames (num_frames, H, W, 3) from the middle; repeats short videos.

    Args:
        path: The video.
        num_frames: Of the clip.
        temporal_stride: Distance between two of them, in frames of the video.
        fps: Frames of the clip per second, if there is no stride. The frames of the
            video are taken to be evenly spaced.
    """
    clip = (num_frames, temporal_stride or frame_rate(path) / fps)
    times, keyframes = read_times(path)
    if times and len(set(times)) == len(times):
        wanted = [times[i] for i in numbers_of_middle(len(times), *clip)]
        before = [time for time in keyframes if time <= min(wanted)]
        found = decode(path, max(before, default=None), max(wanted))
        images = {frame.pts: upright(frame) for frame in found if frame.pts in wanted}
        if set(wanted) == images.keys():
            return np.stack([images[time] for time in wanted])
    # Times are missing, or frames damaged: frames are counted.
    wanted = numbers_of_middle(sum(1 for _ in decode(path)), *clip)
    found = enumerate(decode(path))
    images = {number: upright(frame) for number, frame in found if number in wanted}
    return np.stack([images[number] for number in wanted])


def numbers_of_middle(count, num_frames, temporal_stride):
    """Frame numbers of the clip in the middle of a video of `count` frames."""
    if not count:
        raise ValueError("no frame could be decoded")
    span = (num_frames - 1) * temporal_stride + 1
    start = max(0, (count - span) // 2)
    places = [start + temporal_stride * i for i in range(num_frames)]
    return [math.ceil(place - 0.5) % count for place in places]  # the nearest


def frame_rate(path):
    """Average number of frames per second."""
    with av.open(str(path)) as container:
        rate = video_stream(container).average_rate
    if not rate:
        raise ValueError("its frame rate is unknown")
    return float(rate)


def read_times(path):
    """Timestamps of all frames and of the keyframes, in order; decodes nothing.

    Both are empty if some are unknown: AVI stores none, and those that FFmpeg derives
    are wrong for some files.
    """
    with av.open(str(path)) as container:
        packets = [
            (packet.pts, packet.is_keyframe)
            for packet in container.demux(video_stream(container))
            if packet.size and not packet.is_discard
        ]
        is_avi = container.format.name == "avi"
    if is_avi or any(time is None for time, _ in packets):
        return [], []
    keyframes = [time for time, is_keyframe in packets if is_keyframe]
    return sorted(time for time, _ in packets), sorted(keyframes)


def decode(path, first=None, last=None):
    """Yields frames, from the keyframe at time `first` to the frame at `last`."""
    with av.open(str(path)) as container:
        stream = video_stream(container)
        if first is not None:
            container.seek(first, stream=stream)
        started = first is None
        for packet in container.demux(stream):
            started = started or packet.pts == first
            for frame in packet.decode() if started else ():
                yield frame
                if last is not None and frame.pts is not None and frame.pts >= last:
                    return


def video_stream(container):
    if not container.streams.video:
        raise ValueError("no video stream")
    return container.streams.video[0]


def upright(frame):
    """RGB pixels of a frame, rotated as its metadata say (videos of phones)."""
    pixels = frame.to_ndarray(format="rgb24", threads=1)
    return np.rot90(pixels, round(frame.rotation / 90))


def newest_version(export_dir):
    """The version with the highest number, as in TF Serving; or the given one."""
    if tf.io.gfile.exists(os.path.join(export_dir, "saved_model.pb")):
        return export_dir
    found = tf.io.gfile.glob(os.path.join(export_dir, "*", "saved_model.pb"))
    names = [path.split("/")[-2] for path in found]
    versions = [int(name) for name in names if name.isdecimal()]
    if not versions:
        sys.exit(f"error: no exported version (1/saved_model.pb) in {export_dir}")
    return os.path.join(export_dir, str(max(versions)))


def read_asset(folder, name):
    with tf.io.gfile.GFile(os.path.join(folder, "assets", name), "rb") as file:
        return file.read().decode("utf-8")


def load(folder):
    """The network of a version, its class names and (frames, stride, fps) of clips."""
    network = tf.saved_model.load(folder)
    classes = read_asset(folder, "classes.txt").splitlines()
    clip = json.loads(read_asset(folder, "preprocessing.json"))
    outputs = network.signatures["serving_default"].structured_outputs
    count = outputs["probabilities"].shape[-1]
    if len(classes) != count:
        raise ValueError(f"classes.txt has {len(classes)} names for {count} classes")
    clip = clip["num_frames"], clip["temporal_stride"], clip.get("fps")
    return network, classes, clip


def check_file(path):
    """Raises for what would be read without end, or not at all."""
    if os.path.isdir(path):
        raise ValueError(
            "is a folder; expected video files (--mode predict takes both)"
        )
    if os.path.exists(path) and not os.path.isfile(path):
        raise ValueError("is not a regular file")


def reason(error):
    """What went wrong, in one line, without the path of a video."""
    text = getattr(error, "strerror", None) or getattr(error, "message", None)
    lines = (text or str(error) or repr(error)).strip().splitlines()
    if lines[0] == "Graph execution error:":  # of a limit: before the node's name
        found = [line for line in lines if line.startswith("assertion failed: [")]
        return found[0].partition("[")[2][:-1] if found else lines[-1]
    return lines[0]


def main(export_dir, *videos):
    sys.stdout.reconfigure(errors="surrogateescape")  # names that are not UTF-8
    folder = newest_version(export_dir)
    try:
        network, classes, clip = load(folder)
    except Exception as error:  # damaged files raise many kinds
        sys.exit(
            f"error: {folder}: this export cannot be loaded ({reason(error)}). Remove "
            "it and export again: --mode export."
        )
    classify = network.signatures["serving_default"]  # does not keep network alive
    failed = 0
    for video in videos:
        try:
            check_file(video)
            frames = read_middle_clip(video, *clip)
            scores = classify(clips=tf.constant(frames[np.newaxis]))["probabilities"][0]
        except Exception as error:
            print(f"error: {video}: {reason(error)}", file=sys.stderr)
            failed = 1
            continue
        print(video)
        for k in np.argsort(-scores.numpy())[:5]:
            print(f"  {classes[k]}  {scores[k]:.3f}")
    return failed


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
