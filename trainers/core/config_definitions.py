"""What every experiment has beside its task: trainer and runtime.

The names are the Model Garden's. Fields of its own configs that nothing here
reads are left out, so that no setting is accepted and then ignored.
"""

import dataclasses

from official.core import config_definitions as cfg
from official.modeling import hyperparams
from official.modeling.optimization.configs import optimization_config

LrConfig = optimization_config.LrConfig
WarmupConfig = optimization_config.WarmupConfig


@dataclasses.dataclass
class SGDConfig(hyperparams.Config):
    """SGD as Caffe2 and the paper's code run it.

    Attributes:
        momentum: Of the running gradient.
        nesterov: Look ahead along the momentum.
        weight_decay: Coupled L2: `weight_decay * w` joins the gradient of
            kernels and biases before momentum; normalisation is left out.
        momentum_correction: Keep momentum in units of gradient, so that a
            learning-rate drop scales past gradients too (PyTorch's form; what
            Caffe2's SCALE_MOMENTUM does). Off, momentum holds steps already
            scaled by the rate of their time (Keras's form).
        global_clipnorm: Largest norm of the whole gradient (before weight
            decay), over all replicas, positive; None never clips.
    """

    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 1e-4
    momentum_correction: bool = True
    global_clipnorm: float | None = None


@dataclasses.dataclass
class AdamWConfig(hyperparams.Config):
    """AdamW; its decay is decoupled and leaves normalisation out too.

    Attributes:
        beta_1: Decay of the mean.
        beta_2: Decay of the uncentred variance.
        epsilon: Added to the square root.
        weight_decay: Each step takes `lr * weight_decay * w` off.
        global_clipnorm: As in `SGDConfig`.
    """

    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.05
    global_clipnorm: float | None = None


@dataclasses.dataclass
class OptimizerConfig(hyperparams.OneOfConfig):
    """`type` says which of the others is used."""

    type: str | None = "sgd"
    sgd: SGDConfig = dataclasses.field(default_factory=SGDConfig)
    adamw: AdamWConfig = dataclasses.field(default_factory=AdamWConfig)


@dataclasses.dataclass
class OptimizationConfig(hyperparams.Config):
    """Optimizer, learning rate and warm-up; the last two are Model Garden's.

    Attributes:
        optimizer: `sgd` or `adamw`.
        learning_rate: `constant`, `stepwise`, `cosine`, ...
        warmup: None, `linear` or `polynomial`.
    """

    optimizer: OptimizerConfig = dataclasses.field(default_factory=OptimizerConfig)
    learning_rate: LrConfig = dataclasses.field(default_factory=LrConfig)
    warmup: WarmupConfig = dataclasses.field(default_factory=WarmupConfig)


@dataclasses.dataclass
class TrainerConfig(hyperparams.Config):
    """How long to train, and how often to look.

    Attributes:
        optimizer_config: See `OptimizationConfig`.
        train_steps: Steps to train in all.
        gradient_accumulation_steps: Parts that each replica's share of
            `global_batch_size` is computed in, one after another, where memory does
            not hold it whole. An update is the same but for batch normalisation,
            whose statistics are of one part; steps, rates and checkpoints count
            updates.
        recompute_activations: Keep the activations at the ends of blocks alone, and
            compute those within again for the gradient (gradient checkpointing), for
            long clips. The same update, at the price of one forward pass more.
        steps_per_loop: Steps averaged into one point of the training curves.
        checkpoint_interval: Steps from one checkpoint to the next.
        max_to_keep: Checkpoints kept.
        validation_steps: Batches per evaluation; -1 for the whole set.
        validation_interval: Steps from one evaluation to the next; each is of a
            checkpoint that is saved before it.
        best_checkpoint_export_subdir: Where in the model directory the best
            checkpoint is kept; empty keeps none.
        best_checkpoint_eval_metric: What best means; empty: the task's choice.
        best_checkpoint_metric_comp: `higher` or `lower` is better; of the task's
            own choice the task knows.
        validation_summary_subdir: Where the curves of evaluations go.
    """

    optimizer_config: OptimizationConfig = dataclasses.field(
        default_factory=OptimizationConfig
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
    best_checkpoint_metric_comp: str = "higher"
    validation_summary_subdir: str = "validation"


@dataclasses.dataclass
class RuntimeConfig(hyperparams.Config):
    """On what it runs.

    Attributes:
        distribution_strategy: `one_device`, `mirrored`, `tpu` or
            `multi_worker_mirrored`.
        num_gpus: GPUs of this machine to use; -1 for all there are.
        num_cpu_devices: Replicas of `mirrored` where there is no GPU, each a
            logical CPU device; for trying things out.
        all_reduce_alg: See `official.common.distribute_utils`.
        num_packs: See there.
        tpu: Name or address of the TPU; `local` on a TPU VM.
        worker_hosts: Comma-separated `ip:port` of all workers.
        task_index: Which of them this is.
        mixed_precision_dtype: `float32`, `bfloat16` or `float16`.
        loss_scale: Initial loss scale of float16, positive.
        synchronize_batch_norm: Statistics over the batches of all replicas.
        run_eagerly: No graphs, for debugging.
        deterministic: The same run twice gives the same bits, also if one was
            killed on the way. None: on CPUs, where it costs nothing measurable,
            and not on GPUs.
        seed: Of the initial weights and, unless it has its own, of the data.
    """

    distribution_strategy: str = "mirrored"
    num_gpus: int = -1
    num_cpu_devices: int = 1
    all_reduce_alg: str | None = None
    num_packs: int = 1
    tpu: str | None = None
    worker_hosts: str | None = None
    task_index: int = -1
    mixed_precision_dtype: str = "float32"
    loss_scale: float = 2.0**15
    synchronize_batch_norm: bool = False
    run_eagerly: bool = False
    deterministic: bool | None = None
    seed: int = 0


@dataclasses.dataclass
class ExperimentConfig(cfg.ExperimentConfig):
    """Task, trainer and runtime: all that an experiment is."""

    task: cfg.TaskConfig = dataclasses.field(default_factory=cfg.TaskConfig)
    trainer: TrainerConfig = dataclasses.field(default_factory=TrainerConfig)
    runtime: RuntimeConfig = dataclasses.field(default_factory=RuntimeConfig)
