"""Videos as TFRecords of JPEG frames. In reading order:

- `video_frames.py`: a video file as JPEG frames.
- `records.py`: the format of a record: makes those of a video, reads their frames.
- `frame_tables.py`: where the frames of records are: a clip reads only its own.
- `sidecars.py`: the JSON files beside shards, and the list of a shard's videos.
- `shards.py`: writes an index of videos as shards (`trainers/prepare_video.py`).
  `beam.py`: on the workers of an Apache Beam pipeline.
- `frame_cache.py`: videos kept as records once they have been decoded.
  `cache_room.py`: removes the oldest.
"""
