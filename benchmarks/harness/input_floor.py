"""What no pipeline on libavcodec can be faster than: the decoder alone.

The packets are in memory and the decoder is open. Frames are decoded from the last
keyframe before a clip to its last frame, but for those that are neither wanted nor
referred to; they are not converted.
"""

import concurrent.futures
import functools
import os
import threading

import av

_local = threading.local()
_known = {}


def batches(cuts, batch_size, files, threads):
    """Endless batches of decoded clips, of which nothing is kept.

    So many `files` are decoded at once, each by so many `threads` of libavcodec.
    """
    decode = functools.partial(_decode, threads)
    with concurrent.futures.ThreadPoolExecutor(files) as pool:
        while True:
            for first in range(0, len(cuts) - batch_size + 1, batch_size):
                yield list(pool.map(decode, cuts[first : first + batch_size]))


def _decode(threads, cut):
    """The number of frames that were decoded."""
    file = os.stat(cut.path).st_ino  # which has many names
    packets, times = _packets(file, cut.path)
    wanted = {times[number] for number in cut.frames}
    keys = [p.pts for p in packets if p.is_keyframe and p.pts <= min(wanted)]
    context = _context(file, cut.path, threads)
    context.flush_buffers()
    started, count = False, 0
    for packet in packets:
        started = started or packet.pts == max(keys)
        if started:
            context.skip_frame = "DEFAULT" if packet.pts in wanted else "NONREF"
            count += len(context.decode(packet))
            wanted.discard(packet.pts)
            if not wanted:
                break
    return count + len(context.decode(None))


def _packets(file, path):
    """The packets of a file, and the times of its frames."""
    if file not in _known:
        with av.open(path) as container:
            packets = [packet for packet in container.demux(video=0) if packet.size]
        _known[file] = packets, sorted(packet.pts for packet in packets)
    return _known[file]


def _context(file, path, threads):
    """This thread's decoder of a file."""
    if getattr(_local, "file", None) != file:
        with av.open(path) as container:
            _local.context = container.streams.video[0].codec_context
        _local.context.thread_type = "FRAME" if threads > 1 else "NONE"
        _local.context.thread_count = threads
        _local.file = file
    return _local.context
