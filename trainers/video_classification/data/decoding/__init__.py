"""Video files to frames, by number. In reading order:

- `decoders.py`: opens a video with the decoder of the config.
- `pyav.py`: PyAV, which decodes the requested frames and little else.
- `packet_index.py`: where the frames of a video are, read from its packets.
- `picture.py`: decoded frames, of which only what is needed becomes RGB.
- `container.py`: opens files; what libav raises about one is an error of the file.
- `tfio.py`: tensorflow-io.
- `frame_folder.py`: folders of images.
- `live.py`: cameras, `rtsp://` and pipes.
"""

from trainers.video_classification.data.decoding.container import video_errors
from trainers.video_classification.data.decoding.decoders import (
    DECODERS,
    Frames,
    check_decoder,
    open_video,
    stream,
)
from trainers.video_classification.data.decoding.live import is_live, live_frames

__all__ = [
    "DECODERS",
    "Frames",
    "check_decoder",
    "is_live",
    "live_frames",
    "open_video",
    "stream",
    "video_errors",
]
