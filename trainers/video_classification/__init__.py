"""Video classification: C2D and I3D on clips. In reading order:

- `configs.py`: the config of the task. `experiments.py`: the factories.
- `task.py`: model, data, loss and evaluation as the trainer needs them.
- `modes.py`: what each mode of `trainers/video.py` does. `options.py`: its flags.
- `data/`: from an index of videos to batches of clips.
- `losses.py`; `scoring.py`: how a network scores a clip; `evaluation.py`: accuracy by
  view and by video.
- `initialization.py`: what training starts from, and what stays frozen.
- `predict.py`: classes of videos, windows and live input. `prediction_inputs.py` finds
  the videos, `predictors.py` has the networks that score them, `ahead.py` reads while
  they do, `prediction_folder.py`, `timeline.py` and `annotation.py` write the results.
- `export.py`, `serving.py`, `request_limits.py`: SavedModels.
- `report/`: the HTML page about a run.
- `input_benchmark.py`: the speed of the training input.
"""
