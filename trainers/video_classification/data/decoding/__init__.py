"""Video files to frames, by number. In reading order:

- `decoders.py`: opens a video with the decoder of the config.
- `pyav.py`: PyAV, which decodes the requested frames and little else.
- `packet_index.py`: where the frames of a video are, read from its packets.
- `container.py`: opens files; what libav raises about one is an error of the file.
- `tfio.py`: tensorflow-io.
- `frame_folder.py`: folders of images.
"""

from trainers.video_classification.data.decoding.container import video_errors
from trainers.video_classification.data.decoding.decoders import (
    DECODERS,
    Frames,
    check_decoder,
    open_video,
)

__all__ = [
    "DECODERS",
    "Frames",
    "check_decoder",
    "open_video",
    "video_errors",
]
