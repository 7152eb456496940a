"""The test loops of PySlowFast and mmaction2, written from what their code does.

Both feed PyTorch's network (network_torch.py) from a DataLoader; they are given the
numbers of the frames and the places of the crops. A round takes their steady state:
the workers are as far ahead at its end as at its start.
"""

import collections
import io
import itertools
import math
import pathlib

import av
import cv2
import numpy as np
import torch
from torch.nn import functional

from harness import network_peer
from harness.networks import CLASSES, MEAN, STD, THEIRS
from harness.process import THREADS, die_with_parent
from harness.video_test_job import Job, made

cv2.setNumThreads(0)


def make(name, form, job):
    """A loop of `LOOPS` with a form of `networks.THEIRS`, on a video in a round.

    Values are the class probabilities of the first video.
    """
    torch.set_num_threads(THREADS)
    job = Job.read(job)
    batches = LOOPS[name](job, _network(form, job))
    sums, labels = collections.defaultdict(float), {}

    def score_batch():
        numbers, scores = next(batches)
        for number, score in zip(numbers.tolist(), scores.numpy(), strict=True):
            sums[number] = sums[number] + score
            labels[number] = sums[number].argmax()
        return len(scores)

    def run():
        views = 0
        while views < job.num_views:
            views += score_batch()
        return views / job.num_views

    def values():
        run()
        return [sums[0] / job.num_views]

    return made(run, values)


# === The network ===


def _network(form, job):
    """Function from normalised float32 clips to class probabilities."""
    form, dtype = THEIRS["inference"][form], getattr(torch, job.case.dtype)
    layout = torch.channels_last_3d if form.channels_last else torch.contiguous_format
    network = network_peer.build(job.case, CLASSES)
    network.head = _SlidingHead(network.head.projection, math.ceil(job.train_side / 32))
    network = network.to(dtype, memory_format=layout).eval()
    run = network
    if form.compile is not None:
        run = torch.compile(network, dynamic=False, options=form.compile)

    def score(clips):
        with torch.inference_mode():
            return run(clips.to(dtype, memory_format=layout)).float()

    return score


class _SlidingHead(torch.nn.Module):
    """Mean probabilities of a classifier that slides over the map.

    It averages all frames and `side` x `side` positions, as in training.
    """

    def __init__(self, projection, side):
        super().__init__()
        self.projection, self.side = projection, side

    def forward(self, x):
        window = x.shape[2], self.side, self.side
        x = functional.avg_pool3d(x, window, stride=1)  # (B, C, 1, rows, columns)
        scores = self.projection(x.flatten(2).transpose(1, 2))
        return torch.softmax(scores, dim=2).mean(1)


# === PySlowFast ===


class _Clips(torch.utils.data.Dataset):
    """A sample for each crop of each clip: (clip, number of its video).

    Each decodes its clip anew: all frames from the first to the last are converted.
    """

    def __init__(self, job):
        self._job, self._videos = job, job.videos
        self._views = job.views["pyslowfast"]

    def __getitem__(self, number):
        video, view = divmod(number, self._job.num_views)
        place = video % len(self._videos)
        views = self._views[place % len(self._views)]
        clip, crop = divmod(view, len(views.places))
        images = torch.as_tensor(_decode_span(self._videos[place], views.frames[clip]))
        clip = (images.float() / 255 - MEAN / 255) / (STD / 255)
        clip = clip.permute(3, 0, 1, 2)  # (C, T, H, W)
        if clip.shape[2:] != (views.height, views.width):
            size = views.height, views.width
            clip = functional.interpolate(clip, size, mode="bilinear")
        return _crop(clip, views.places[crop], self._job.case.side), video


def _decode_span(path, numbers):
    """uint8 (T, H, W, 3)."""
    found = {}
    with av.open(path) as container:
        stream = container.streams.video[0]
        ticks = 1 / (stream.average_rate * stream.time_base)
        begin = stream.start_time or 0
        start = begin + round(min(numbers) * ticks)
        container.seek(max(start - 1024, 0), stream=stream)
        for frame in container.decode(stream):
            number = round((frame.pts - begin) / ticks)
            if number >= min(numbers):
                found[number] = frame
            if number > max(numbers):
                break
    images = {n: frame.to_ndarray(format="rgb24") for n, frame in found.items()}
    span = np.stack([images[n] for n in sorted(images)])
    return span[np.array(numbers) - min(numbers)]


def _pyslowfast(job, network):
    loader = _loader(_Clips(job), job.batch, job.workers)
    for clips, videos in loader:
        yield videos, network(clips)


# === mmaction2 ===


class _Videos(torch.utils.data.Dataset):
    """A sample for each video: (all its views, its number), decoded once."""

    def __init__(self, job):
        self._job, self._videos = job, job.videos
        self._views = job.views["mmaction2"]

    def __getitem__(self, number):
        import decord

        place = number % len(self._videos)
        views, side = self._views[place % len(self._views)], self._job.case.side
        content = io.BytesIO(pathlib.Path(self._videos[place]).read_bytes())
        reader = decord.VideoReader(content, num_threads=1)
        images = reader.get_batch(list(itertools.chain(*views.frames))).asnumpy()
        size = views.width, views.height
        images = [cv2.resize(image, size) for image in images]
        crops = [
            image[top : top + side, left : left + side]
            for top, left in views.places
            for image in images
        ]
        clips = np.array(crops).reshape(-1, self._job.case.frames, side, side, 3)
        return torch.from_numpy(clips.transpose(0, 4, 1, 2, 3)), number


def _mmaction2(job, network):
    loader = _loader(_Videos(job), 1, job.workers, collate_fn=lambda samples: samples)
    for [(views, number)] in loader:
        views = torch.stack([views])  # in the order (C, T, H, W)
        clips = ((views - MEAN) / STD).flatten(0, 1)
        yield torch.full((len(clips),), number), network(clips)


LOOPS = {"PySlowFast": _pyslowfast, "mmaction2": _mmaction2}


def _loader(samples, batch, workers, **options):
    """Endless batches; the numbers of samples count on."""
    return torch.utils.data.DataLoader(
        samples,
        sampler=_Endless(),
        batch_size=batch,
        num_workers=workers,
        worker_init_fn=_begin_worker,
        **options,
    )


class _Endless(torch.utils.data.Sampler):
    def __iter__(self):
        return itertools.count()


def _begin_worker(number):
    die_with_parent()


def _crop(clip, place, side):
    top, left = place
    return clip[:, :, top : top + side, left : left + side]
