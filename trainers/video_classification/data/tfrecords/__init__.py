"""Videos as TFRecords of JPEG frames. In reading order:

- `records.py`: the format of a record: writes it, lists a shard, reads frames.
- `jpeg.py`: a video file as JPEG frames.
- `shards.py`: writes an index of videos as shards (`trainers/prepare_video.py`).
- `frame_cache.py`: videos kept as records once they have been decoded.
"""
