"""The parts that the configs of all experiments have in common, and their checks.

The names are those of the Model Garden's configs, without the fields that nothing
here reads: no setting is accepted and then ignored. For those fields
`model_garden.py` has the error messages.
"""

import dataclasses
import math
import pathlib

from official.modeling import hyperparams
from official.modeling.optimization.configs import optimization_config

from trainers.core.errors import UserError, check_key

LrConfig = optimization_config.LrConfig
WarmupConfig = optimization_config.WarmupConfig

STRATEGIES = ("one_device", "mirrored", "multi_worker_mirrored", "tpu")
PRECISIONS = ("float32", "bfloat16", "float16")
COMPARISONS = ("", "higher", "lower")


# === Task ===


@dataclasses.dataclass
class DataConfig(hyperparams.Config):
    """A data set. Tasks derive from it to describe how their data are read.

    Attributes:
        input_path: Location of the data.
        global_batch_size: Examples per step, over all replicas.
        is_training: Set by the task: True for `train_data`, False for
            `validation_data`.
        deterministic: False lets batches be made in any order, which may be faster.
        prefetch_buffer_size: Batches prepared ahead; None lets tf.data decide.
        seed: Of the order and the augmentation. None: `runtime.seed`.
        enable_tf_data_service: Training batches are made by the workers of a tf.data
            service (`trainers/data_worker.py`); they are the same ones.
        tf_data_service_address: Of its dispatcher: `grpc://HOST:PORT`.
        tf_data_service_job_name: For the dispatcher's log. Each input pipeline has a
            job of its own.
    """

    input_path: str = ""
    global_batch_size: int = 0
    is_training: bool | None = None
    deterministic: bool | None = None
    prefetch_buffer_size: int | None = None
    seed: int | None = None
    enable_tf_data_service: bool = False
    tf_data_service_address: str | None = None
    tf_data_service_job_name: str | None = None

    def check_service(self):
        """Raises `UserError` for a tf.data service that cannot be used."""
        if not self.enable_tf_data_service:
            return
        if not self.is_training:
            raise UserError(
                "`enable_tf_data_service` is for train_data: evaluation reads its data "
                "itself. Leave it out of validation_data."
            )
        if not self.tf_data_service_address:
            raise UserError(
                "`enable_tf_data_service` needs `tf_data_service_address`, such as "
                "grpc://HOST:5050."
            )


@dataclasses.dataclass
class TaskConfig(hyperparams.Config):
    """The task of an experiment. Each task derives its own config from it.

    Attributes:
        init_checkpoint: Weights to start from. Empty: random ones.
        train_data: The training set.
        validation_data: The set that the model is evaluated on.
    """

    init_checkpoint: str = ""
    train_data: DataConfig = dataclasses.field(default_factory=DataConfig)
    validation_data: DataConfig = dataclasses.field(default_factory=DataConfig)


# === Optimizer ===


@dataclasses.dataclass
class SGDConfig(hyperparams.Config):
    """SGD as in Caffe2 and the paper's code.

    Attributes:
        momentum: Decay of the running gradient.
        nesterov: Use Nesterov momentum.
        weight_decay: Coupled L2: `weight_decay * w` joins the gradient of
            kernels and biases before momentum; normalisation is left out.
        momentum_correction: Keep momentum in units of gradient, so that a
            learning-rate drop scales past gradients too (PyTorch's form; what
            Caffe2's SCALE_MOMENTUM does). False: momentum sums steps, each scaled
            by the learning rate of its time (Keras's form).
        global_clipnorm: Largest norm of the whole gradient (before weight
            decay), over all replicas, positive; None never clips.
        bias_rate_factor: Factor of the learning rate for biases; 2 in Detectron.
        decay_biases: False leaves biases out of the weight decay.
    """

    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 1e-4
    momentum_correction: bool = True
    global_clipnorm: float | None = None
    bias_rate_factor: float = 1.0
    decay_biases: bool = True


@dataclasses.dataclass
class AdamWConfig(hyperparams.Config):
    """AdamW. Its weight decay is decoupled, and leaves normalisation out too.

    Attributes:
        beta_1: Decay of the mean.
        beta_2: Decay of the uncentred variance.
        epsilon: Added to the square root.
        weight_decay: Each step subtracts `lr * weight_decay * w`.
        global_clipnorm: As in `SGDConfig`.
    """

    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.05
    global_clipnorm: float | None = None


def _is_decay(value: float) -> bool:
    return 0 <= value < 1


_OPTIMIZER_RANGES = {
    "momentum": (_is_decay, "in [0, 1)"),
    "beta_1": (_is_decay, "in [0, 1)"),
    "beta_2": (_is_decay, "in [0, 1)"),
    "epsilon": (lambda value: value > 0, "positive"),
    "weight_decay": (lambda value: value >= 0, "at least 0"),
    "bias_rate_factor": (lambda value: value > 0, "positive"),
    "global_clipnorm": (
        lambda value: value > 0,
        "positive, or null for no clipping",
    ),
}


@dataclasses.dataclass
class OptimizerConfig(hyperparams.OneOfConfig):
    """`type` selects one of the others."""

    type: str | None = "sgd"
    sgd: SGDConfig = dataclasses.field(default_factory=SGDConfig)
    adamw: AdamWConfig = dataclasses.field(default_factory=AdamWConfig)

    def check(self):
        """Raises `UserError` for an unknown type, or a number out of its range."""
        key = "trainer.optimizer_config.optimizer"
        check_key(f"{key}.type", self.type, ("sgd", "adamw"))
        chosen = self.get()
        for name, (is_valid, expected) in _OPTIMIZER_RANGES.items():
            value = getattr(chosen, name, None)
            if value is not None and not is_valid(value):
                raise UserError(
                    f"{key}.{self.type}.{name} must be {expected}. Received: {value}."
                )


@dataclasses.dataclass
class EMAConfig(hyperparams.Config):
    """Moving averages of the trainable weights, for evaluation and export.

    After each step, average = d * average + (1 - d) * weight, from the weights after
    the first step on. Steps that loss scaling skips do not count. Training goes on with
    the weights themselves. Moving statistics of batch normalisation are not averaged
    again: they are averages, though of activations under the weights of training; with
    `trainer.precise_batch_norm` they are computed for the averaged weights.

    Attributes:
        average_decay: d, such as 0.9999. 0: no averages.
    """

    average_decay: float = 0.0

    def check(self):
        """Raises `UserError` for a decay that is not in [0, 1)."""
        if not _is_decay(self.average_decay):
            raise UserError(
                "trainer.optimizer_config.ema.average_decay must be in [0, 1); 0 for "
                f"no averages. Received: {self.average_decay}."
            )


@dataclasses.dataclass
class OptimizationConfig(hyperparams.Config):
    """Optimizer, learning rate and warm-up; the last two are Model Garden's.

    Attributes:
        optimizer: `sgd` or `adamw`.
        learning_rate: `constant`, `stepwise`, `cosine`, ...
        warmup: None, `linear` or `polynomial`.
        reference_batch_size: `global_batch_size` of `train_data` that the learning
            rates are for: with another one they are scaled in proportion (Goyal et
            al., https://arxiv.org/abs/1706.02677). 0: they are used as they are.
        ema: Averages of the weights, for evaluation.
    """

    optimizer: OptimizerConfig = dataclasses.field(default_factory=OptimizerConfig)
    learning_rate: LrConfig = dataclasses.field(default_factory=LrConfig)
    warmup: WarmupConfig = dataclasses.field(default_factory=WarmupConfig)
    reference_batch_size: int = 0
    ema: EMAConfig = dataclasses.field(default_factory=EMAConfig)

    def rate_scale(self, batch_size: int) -> float:
        """The factor of the learning rates for a `global_batch_size`.

        Raises:
            UserError: `reference_batch_size` is negative.
        """
        reference = self.reference_batch_size
        if reference < 0:
            raise UserError(
                "trainer.optimizer_config.reference_batch_size must be positive, or 0 "
                f"for learning rates as they are. Received: {reference}."
            )
        return batch_size / reference if reference else 1.0


# === Trainer ===

_COUNTS = (
    "train_steps",
    "steps_per_loop",
    "checkpoint_interval",
    "validation_interval",
    "max_to_keep",
    "gradient_accumulation_steps",
)


@dataclasses.dataclass
class PreciseBatchNormConfig(hyperparams.Config):
    """Statistics of batch normalisation, computed anew for evaluation and export.

    When an evaluation is due, and at the end of training, the mean and variance of each
    layer that is not frozen are computed over the training batches after that step,
    with the weights that are evaluated (`trainers/core/precise_batch_norm.py`). They
    are saved beside the checkpoint. Training goes on with its moving statistics.

    Attributes:
        num_batches: Training batches, such as 200. 0: the moving statistics are used.
    """

    num_batches: int = 0

    def check(self):
        """Raises `UserError` for a negative number."""
        if self.num_batches < 0:
            raise UserError(
                "trainer.precise_batch_norm.num_batches must be positive, or 0 for "
                f"moving statistics. Received: {self.num_batches}."
            )


@dataclasses.dataclass
class TrainerConfig(hyperparams.Config):
    """How long to train, and how often to log, evaluate and save.

    Attributes:
        optimizer_config: See `OptimizationConfig`.
        precise_batch_norm: See `PreciseBatchNormConfig`.
        train_steps: Number of training steps.
        gradient_accumulation_steps: Parts that each replica's share of
            `global_batch_size` is computed in, one after another, if it does not fit
            in memory whole. An update is the same except for batch normalisation,
            whose statistics are of one part; steps, rates and checkpoints count
            updates.
        recompute_activations: Keep only the activations at the ends of blocks, and
            compute those within again for the gradient (gradient checkpointing), for
            long clips. The same update, at the price of one more forward pass.
        steps_per_loop: Steps averaged into one point of the training curves.
        checkpoint_interval: Steps from one checkpoint to the next.
        max_to_keep: Number of checkpoints to keep.
        validation_steps: Batches per evaluation; -1 for the whole set.
        validation_interval: Steps from one evaluation to the next. Each evaluates a
            checkpoint that is saved before it.
        best_checkpoint_export_subdir: Subfolder of the model directory for the best
            checkpoint; empty keeps none.
        best_checkpoint_eval_metric: Metric that selects the best checkpoint; empty:
            the task's choice.
        best_checkpoint_metric_comp: Whether `higher` or `lower` values of
            `best_checkpoint_eval_metric` are better. Empty: lower for a loss, higher
            for others.
        validation_summary_subdir: Subfolder for the curves of evaluations.
    """

    optimizer_config: OptimizationConfig = dataclasses.field(
        default_factory=OptimizationConfig
    )
    precise_batch_norm: PreciseBatchNormConfig = dataclasses.field(
        default_factory=PreciseBatchNormConfig
    )
    train_steps: int = 0
    gradient_accumulation_steps: int = 1
    recompute_activations: bool = False
    steps_per_loop: int = 100
    checkpoint_interval: int = 1000
    max_to_keep: int = 3
    validation_steps: int = -1
    validation_interval: int = 1000
    best_checkpoint_export_subdir: str = "best"
    best_checkpoint_eval_metric: str = ""
    best_checkpoint_metric_comp: str = ""
    validation_summary_subdir: str = "validation"

    def check_training(self, task):
        """Checks the fields that training reads, before the first step.

        Args:
            task: `trainers.core.task.Task`, whose metrics can select the best
                checkpoint.

        Raises:
            UserError: Names the field and its valid values.
        """
        for name in _COUNTS:
            value = getattr(self, name)
            if value < 1:
                raise UserError(f"trainer.{name} must be positive. Received: {value}.")
        for name in ("best_checkpoint_export_subdir", "validation_summary_subdir"):
            value = getattr(self, name)
            if pathlib.PurePath(value).is_absolute() or ".." in value.split("/"):
                raise UserError(
                    f"trainer.{name} must be a folder within the model directory. "
                    f"Received: {value!r}."
                )
        subdir = self.best_checkpoint_export_subdir
        if subdir and subdir in ("train", self.validation_summary_subdir):
            raise UserError(
                f"trainer.best_checkpoint_export_subdir is {subdir!r}, the folder of "
                "curves: choose another, such as 'best'."
            )
        self.precise_batch_norm.check()
        self.check_evaluation()
        self._check_best(task)

    def check_evaluation(self):
        """Raises `UserError` for a number of batches that cannot be evaluated."""
        steps = self.validation_steps
        if steps < 1 and steps != -1:
            raise UserError(
                "trainer.validation_steps must be positive, or -1 for the whole set. "
                f"Received: {steps}."
            )

    def _check_best(self, task):
        metric = self.best_checkpoint_eval_metric
        comparison = self.best_checkpoint_metric_comp
        check_key("trainer.best_checkpoint_metric_comp", comparison, COMPARISONS)
        if metric and metric not in task.metric_names:
            raise UserError(
                f"trainer.best_checkpoint_eval_metric is {metric!r}. Expected one of: "
                f"{', '.join(task.metric_names)}; or nothing, for {task.best_metric}."
            )
        if metric in task.lower_is_better and comparison == "higher":
            raise UserError(
                f"trainer.best_checkpoint_metric_comp is 'higher', but the lowest "
                f"{metric} is the best: leave it out."
            )
        if not metric and comparison == "lower":
            raise UserError(
                f"trainer.best_checkpoint_metric_comp is {comparison!r}, but no metric "
                "is selected: set trainer.best_checkpoint_eval_metric too."
            )


# === Runtime ===


@dataclasses.dataclass
class RuntimeConfig(hyperparams.Config):
    """Devices, precision and randomness.

    Attributes:
        distribution_strategy: `one_device`, `mirrored`, `tpu` or
            `multi_worker_mirrored`.
        num_gpus: GPUs of this machine to use; -1 for all there are.
        num_cpu_devices: Replicas of `mirrored` on a machine without GPUs, each a
            logical CPU device; for trying things out.
        all_reduce_alg: See `official.common.distribute_utils`.
        num_packs: See there.
        tpu: Name or address of the TPU; `local` on a TPU VM.
        worker_hosts: Comma-separated `host:port` of all workers, where TF_CONFIG is not
            set. The first is the chief.
        task_index: Which of them this is, from 0.
        worker_timeout: Seconds in which all workers must have started.
        mixed_precision_dtype: `float32`, `bfloat16` or `float16`.
        loss_scale: Initial loss scale of float16, positive.
        synchronize_batch_norm: Statistics over the batches of all replicas.
        enable_xla: XLA compiles the steps of training and evaluation, each for every
            shape of its batches, on one device. On TPUs it always does. Dropout draws
            other masks.
        run_eagerly: No graphs, for debugging.
        deterministic: The same run twice gives the same bits, also if it was
            interrupted in between. None: True on CPUs, where it costs nothing
            measurable, and False on GPUs and TPUs.
        seed: Of the initial weights and, unless they have their own, of the data.
    """

    distribution_strategy: str = "mirrored"
    num_gpus: int = -1
    num_cpu_devices: int = 1
    all_reduce_alg: str | None = None
    num_packs: int = 1
    tpu: str | None = None
    worker_hosts: str | None = None
    task_index: int = -1
    worker_timeout: float = 60.0
    mixed_precision_dtype: str = "float32"
    loss_scale: float = 2.0**15
    synchronize_batch_norm: bool = False
    enable_xla: bool = False
    run_eagerly: bool = False
    deterministic: bool | None = None
    seed: int = 0

    def check(self):
        """Raises `UserError` for values that no machine can run with."""
        strategy, precision = self.distribution_strategy, self.mixed_precision_dtype
        check_key("runtime.distribution_strategy", strategy, STRATEGIES)
        check_key("runtime.mixed_precision_dtype", precision, PRECISIONS)
        for name, least in (("num_cpu_devices", 1), ("num_gpus", -1), ("num_packs", 0)):
            if getattr(self, name) < least:
                expected = "positive" if least == 1 else f"at least {least}"
                raise UserError(
                    f"runtime.{name} must be {expected}. Received: "
                    f"{getattr(self, name)}."
                )
        if not 0 <= self.seed < 2**32:
            raise UserError(
                f"runtime.seed must be from 0 to 2**32 - 1. Received: {self.seed}."
            )
        for name in ("loss_scale", "worker_timeout"):
            if not 0 < getattr(self, name) < math.inf:
                raise UserError(
                    f"runtime.{name} must be positive and finite. Received: "
                    f"{getattr(self, name)}."
                )
        if strategy == "tpu" and self.tpu is None:
            raise UserError(
                "runtime.distribution_strategy is 'tpu', but runtime.tpu is not set: "
                "give the TPU's name or address, or `local` on a TPU VM."
            )
        if self.enable_xla and self.run_eagerly:
            raise UserError(
                "runtime.enable_xla compiles graphs, and runtime.run_eagerly makes "
                "none: set one of the two to false."
            )

    def check_xla(self, num_replicas: int):
        """Raises `UserError` for steps that XLA cannot compile."""
        is_tpu = self.distribution_strategy == "tpu"
        if self.enable_xla and num_replicas > 1 and not is_tpu:
            raise UserError(
                "runtime.enable_xla compiles the steps of one device, but there are "
                f"{num_replicas} replicas, which TensorFlow cannot compile together: "
                "set it to false, or use one device."
            )


@dataclasses.dataclass
class ExperimentConfig(hyperparams.Config):
    """A whole experiment: task, trainer and runtime."""

    task: TaskConfig = dataclasses.field(default_factory=TaskConfig)
    trainer: TrainerConfig = dataclasses.field(default_factory=TrainerConfig)
    runtime: RuntimeConfig = dataclasses.field(default_factory=RuntimeConfig)

    def check_batch(self, num_replicas: int):
        """Checks that a batch splits evenly over replicas, and then into parts.

        Raises:
            UserError: Says what the batch must be a multiple of.
        """
        parts = self.trainer.gradient_accumulation_steps
        batch = self.task.train_data.global_batch_size
        if batch < 1:
            raise UserError(
                "task.train_data.global_batch_size must be positive. Received: "
                f"{batch}."
            )
        multiple = num_replicas * parts
        if batch % multiple:
            in_parts = f" in {parts} parts (trainer.gradient_accumulation_steps)"
            raise UserError(
                f"task.train_data.global_batch_size is {batch}, which cannot be shared "
                f"evenly by {num_replicas} replicas{in_parts if parts > 1 else ''}: "
                f"choose a multiple of {multiple}, such as "
                f"{-(-batch // multiple) * multiple}."
            )
