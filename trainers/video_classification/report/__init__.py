"""The report of a run: one HTML page that needs no other file and no network.

In reading order:

- `scores.py`: scores the validation videos.
- `hardest.py`: pictures of the clips with the largest loss.
- `timing.py`: where the time of the training went.
- `charts.py`: SVG. `page.py`, `page.html`: puts all together.
"""

import sys

from trainers.core import files
from trainers.video_classification.report.page import write_page

REPORT_FILE = "report.html"


def run(
    task,
    model,
    experiment,
    checkpoint: str,
    model_dir: str,
    max_videos: int | None = None,
) -> None:
    """Scores the validation videos, and writes `report.html` to the model directory.

    Args:
        task: Task the model was trained for; its validation data are what is scored.
        model: Keras model to logits, weights loaded.
        experiment: `ExperimentConfig`.
        checkpoint: That of the weights.
        model_dir: Folder of the run.
        max_videos: Of more, so many that are evenly spread over the list are scored.

    Raises:
        UserError: None of the videos can be read; the page cannot be written.
    """
    page = write_page(task, model, experiment, checkpoint, model_dir, max_videos)
    path = files.join(model_dir, REPORT_FILE)
    files.write_text(path, page)
    print(f"Wrote {path} ({len(page.encode()) / 2**20:.1f} MiB)", file=sys.stderr)
