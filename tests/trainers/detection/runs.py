"""Runs the modes of `trainers/detection.py` in this process."""

from trainers.detection import modes


def run(mode, model_dir, *overrides, **options):
    """Runs a mode; returns the exit code."""
    files = [str(options.pop("config"))] if "config" in options else []
    return modes.run(
        mode,
        modes.Options(
            model_dir=str(model_dir),
            config_files=tuple(files),
            overrides=overrides,
            **options,
        ),
    )
