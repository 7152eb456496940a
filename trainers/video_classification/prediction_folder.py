"""The folder that predictions are written to, which a killed run continues."""

import contextlib
import os

from trainers.core import files
from trainers.core.errors import UserError
from trainers.core.lock import only_one
from trainers.video_classification import timeline
from trainers.video_classification.prediction_inputs import Video

SETTINGS_FILE = "predict.json"


@contextlib.contextmanager
def output_folder(predictor, options, videos):
    """Context in which no other process writes there.

    Args:
        predictor: `predictors.Predictor`.
        options: `modes.Options`.
        videos: All videos; what killed runs left of their files is removed.

    Raises:
        UserError: It has predictions of other settings; another process writes there.
    """
    with only_one(options.output_dir, "predicting", "--output_dir"):
        path = files.join(options.output_dir, SETTINGS_FILE)
        settings = {
            "network": predictor.name,
            "views": predictor.data.describe_views(),
            "window": options.window,
            "step": options.step,
            "top_k": options.top_k,
        }
        before = files.read_json(path) if files.is_file(path) else settings
        changed = [
            f"{name} {before.get(name)} -> {value}"
            for name, value in settings.items()
            if before.get(name) != value
        ]
        if changed:
            raise UserError(
                f"{options.output_dir} has predictions of other settings "
                f"({'; '.join(changed)}). Name another --output_dir."
            )
        files.write_json(path, settings)
        paths = [path for video in videos for path in outputs(video, options).values()]
        for folder in {os.path.dirname(path) for path in paths}:
            files.remove_parts(folder)
        yield


def outputs(video: Video, options) -> dict[str, str]:
    """The files of a video, by kind."""
    kinds = [*options.outputs, *filter(None, [options.features])]
    return timeline.output_paths(options.output_dir, video.name, kinds)


def is_done(video: Video, options) -> bool:
    """Whether all files of a video are there, and newer than it is."""
    if not options.output_dir or video.problem:
        return False
    try:
        since = files.state(video.path.rstrip("/"))[0]
        return all(files.state(p)[0] >= since for p in outputs(video, options).values())
    except files.FileError:
        return False
