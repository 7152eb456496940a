"""Video files to clips for PyTorch, each pipeline tuned for one thread.

Written from the documentation of the libraries. All are given the frame numbers and
the frame size, and return uint8; they antialias where frames are scaled down.
"""

import cv2
import numpy as np
import torch

from harness.process import die_with_parent

cv2.setNumThreads(0)


def pyav_cv2(cut):
    """Seeks, decodes, converts the selected frames, crops, resizes."""
    return np.stack([_crop_resize(frame, cut) for frame in _pyav_frames(cut)])


def pyav_torch(cut):
    """PySlowFast's order: all frames as one tensor, resized, then cropped."""
    return _torch_resize(torch.from_numpy(np.stack(list(_pyav_frames(cut)))), cut)


def decord_cv2(cut):
    """mmaction2's decoder."""
    import decord

    reader = decord.VideoReader(cut.path, num_threads=1)
    frames = reader.get_batch(list(cut.frames)).asnumpy()
    return np.stack([_crop_resize(frame, cut) for frame in frames])


def torchcodec_cv2(cut):
    """Decoded by torchcodec, channels last."""
    frames = _torchcodec_frames(cut, dimension_order="NHWC").numpy()
    return np.stack([_crop_resize(frame, cut) for frame in frames])


def torchcodec_torch(cut):
    """Decoded by torchcodec, resized by torch."""
    return _torch_resize(_torchcodec_frames(cut, dimension_order="NHWC"), cut)


def torchcodec_resize(cut):
    """Scaled by torchcodec itself while it decodes, then cropped."""
    from torchcodec.transforms import Resize

    resize = [Resize((cut.height, cut.width))]
    frames = _torchcodec_frames(cut, dimension_order="NHWC", transforms=resize)
    return np.ascontiguousarray(_crop(frames.numpy(), cut))


PEERS = {
    "pyav_cv2": pyav_cv2,
    "pyav_torch": pyav_torch,
    "decord_cv2": decord_cv2,
    "torchcodec_cv2": torchcodec_cv2,
    "torchcodec_torch": torchcodec_torch,
    "torchcodec_resize": torchcodec_resize,
}


class Clips(torch.utils.data.Dataset):
    """Sample n of a training run."""

    def __init__(self, read, cuts):
        self.read, self.cuts = read, cuts

    def __len__(self):
        return len(self.cuts)

    def __getitem__(self, number):
        cut = self.cuts[number]
        return torch.as_tensor(self.read(cut)), cut.label


def batches(name, cuts, batch_size, workers):
    """Endless batches, from `workers` processes."""
    loader = torch.utils.data.DataLoader(
        Clips(PEERS[name], cuts),
        batch_size=batch_size,
        num_workers=workers,
        persistent_workers=True,
        worker_init_fn=_begin_worker,
        drop_last=True,
    )
    while True:
        yield from loader


def _begin_worker(number):
    die_with_parent()


def _pyav_frames(cut):
    import av

    with av.open(cut.path) as container:
        stream = container.streams.video[0]
        stream.thread_type = "NONE"
        ticks = 1 / (stream.average_rate * stream.time_base)
        first = stream.start_time or 0
        container.seek(first + round(min(cut.frames) * ticks), stream=stream)
        found, wanted, last = {}, set(cut.frames), max(cut.frames)
        for frame in container.decode(stream):
            number = round((frame.pts - first) / ticks)
            if number in wanted:
                found[number] = frame.to_ndarray(format="rgb24")
            if number >= last:
                break
    return (found[number] for number in cut.frames)


def _torchcodec_frames(cut, **options):
    from torchcodec.decoders import VideoDecoder

    decoder = VideoDecoder(
        cut.path, num_ffmpeg_threads=1, seek_mode="approximate", **options
    )
    return decoder.get_frames_at(list(cut.frames)).data


def _crop_resize(image, cut):
    ratio = image.shape[0] / cut.height, image.shape[1] / cut.width
    rows, columns = (
        slice(round(start * r), round((start + cut.size) * r))
        for start, r in zip((cut.top, cut.left), ratio, strict=True)
    )
    shrinks = cut.height < image.shape[0]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    size = cut.size, cut.size
    image = cv2.resize(image[rows, columns], size, interpolation=method)
    return cv2.flip(image, 1) if cut.flip else image


def _torch_resize(frames, cut):
    frames = torch.nn.functional.interpolate(
        frames.permute(0, 3, 1, 2),  # channels last in memory: torch's fast kernels
        (cut.height, cut.width),
        mode="bilinear",
        antialias=True,
    )
    return _crop(frames.permute(0, 2, 3, 1), cut).contiguous()


def _crop(frames, cut):
    rows, columns = (slice(x, x + cut.size) for x in (cut.top, cut.left))
    frames = frames[:, rows, columns]
    if not cut.flip:
        return frames
    return frames.flip(2) if torch.is_tensor(frames) else frames[:, :, ::-1]
