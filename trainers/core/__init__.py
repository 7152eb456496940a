"""What all trainers share. In reading order:

- `config_definitions.py`: trainer and runtime settings, with their checks.
- `config.py`: builds a config from factory, YAML and overrides; saves and compares it.
  `experiments.py` has the factories by name, `yaml_io.py` reads the files,
  `model_garden.py` explains unused keys.
- `task.py`: the interface of a task.
- `modes.py`: the modes that all trainers have. `options.py`: their flags. `export.py`:
  folders of exported networks. `classes.py`: class names in files.
  `init_checkpoint.py`: finds the weights to start from.
- `runner.py`: a whole training or evaluation, with checkpoints and curves.
- `trainer.py`: its steps. `accumulation.py` and `recomputation.py` save memory.
- `evaluation_weights.py`: the weights that are evaluated, where they are not those of
  training. `precise_batch_norm.py`: statistics of batch normalisation for them.
- `optimization.py`: optimizers and learning rates. `distribution.py`: devices,
  precision and seeds.
- `checkpoints.py`: what is in a checkpoint. `checkpoint_files.py`: its files, found and
  verified. `saver.py`: which are kept. `lock.py`: one training per directory.
- `files.py`: files on local disks and remote file systems. `curves.py`: event files.
- `failures.py`: broken files of a data set. `tfrecord_file.py`: records by their
  offset.
- `cli.py`, `errors.py`, `progress.py`, `signals.py`: the terminal.
"""
