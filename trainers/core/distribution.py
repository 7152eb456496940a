"""Devices, strategies, precision and seeds: set once, before a model is built."""

import keras
import tensorflow as tf
from official.common import distribute_utils

from trainers.core import cluster, files
from trainers.core.errors import UserError, check_key

# Keras dtype policies by `runtime.mixed_precision_dtype`.
_POLICIES = {
    "float32": "float32",
    "bfloat16": "mixed_bfloat16",
    "float16": "mixed_float16",
}
# Of several workers, by `runtime.all_reduce_alg`.
_COMMUNICATION = {
    None: tf.distribute.experimental.CommunicationImplementation.AUTO,
    "ring": tf.distribute.experimental.CommunicationImplementation.RING,
    "nccl": tf.distribute.experimental.CommunicationImplementation.NCCL,
}


def configure(runtime):
    """Applies the settings of the whole process: seed, precision, devices.

    Keras 3 models follow `keras.config.set_dtype_policy`. The Model Garden's own
    `set_mixed_precision_policy` acts on tf_keras only, and silently leaves them
    in float32.

    Args:
        runtime: `RuntimeConfig`.

    Raises:
        UserError: An invalid value, or devices that this machine does not have.
    """
    runtime.check()
    keras.config.set_dtype_policy(_POLICIES[runtime.mixed_precision_dtype])
    _split_cpu(runtime.num_cpu_devices)
    for gpu in tf.config.list_physical_devices("GPU"):
        tf.config.experimental.set_memory_growth(gpu, True)
    keras.utils.set_random_seed(runtime.seed)
    deterministic = runtime.deterministic
    if deterministic is None:
        is_tpu = runtime.distribution_strategy == "tpu"
        deterministic = not (is_tpu or tf.config.list_physical_devices("GPU"))
    if deterministic:
        tf.config.experimental.enable_op_determinism()
    tf.config.run_functions_eagerly(runtime.run_eagerly)


def _split_cpu(num_devices: int):
    """Splits the CPU into logical devices, one for each replica."""
    cpu = tf.config.list_physical_devices("CPU")[0]
    if num_devices == 1 and tf.config.get_logical_device_configuration(cpu) is None:
        return
    devices = [tf.config.LogicalDeviceConfiguration()] * num_devices
    try:
        tf.config.set_logical_device_configuration(cpu, devices)
    except RuntimeError as error:
        if len(tf.config.list_logical_devices("CPU")) != num_devices:
            raise UserError(
                f"runtime.num_cpu_devices is {num_devices}, but TensorFlow has "
                "already started with another number in this process."
            ) from error


def build_strategy(runtime) -> tf.distribute.Strategy:
    """The strategy of a `RuntimeConfig`.

    Raises:
        UserError: More GPUs than this machine has; workers or a TPU that are not
            found.
    """
    runtime.check()
    num_gpus = _num_gpus(runtime)
    if runtime.distribution_strategy == "mirrored":
        cluster.find(runtime)  # a TF_CONFIG that is wrong would end in a traceback
    if runtime.distribution_strategy == "mirrored" and not num_gpus:
        return _mirrored_cpu(runtime.num_cpu_devices)
    if runtime.distribution_strategy == "multi_worker_mirrored":
        return _multi_worker(runtime, num_gpus)
    try:
        return distribute_utils.get_distribution_strategy(
            runtime.distribution_strategy,
            num_gpus=num_gpus,
            all_reduce_alg=runtime.all_reduce_alg,
            num_packs=runtime.num_packs,
            tpu_address=runtime.tpu,
        )
    except (ValueError, KeyError, OSError, tf.errors.OpError) as error:
        raise UserError(
            f"runtime.distribution_strategy={runtime.distribution_strategy} cannot be "
            f"started: {files.reason(error)} Check runtime.tpu and all_reduce_alg, and "
            "that the TPU can be reached."
        ) from error


def build_local_strategy(runtime) -> tf.distribute.Strategy:
    """The strategy of a `RuntimeConfig`, or one device in place of several machines.

    Raises:
        UserError: As `build_strategy`, except for workers and TPUs, which it does not
            look for.
    """
    runtime.check()
    if runtime.distribution_strategy in ("one_device", "mirrored"):
        return build_strategy(runtime)
    return tf.distribute.get_strategy()


def _multi_worker(runtime, num_gpus: int) -> tf.distribute.Strategy:
    algorithm = runtime.all_reduce_alg
    check_key("runtime.all_reduce_alg", algorithm, _COMMUNICATION)
    options = tf.distribute.experimental.CommunicationOptions(
        implementation=_COMMUNICATION[algorithm]
    )
    found = cluster.find(runtime)
    if found and len(found.workers) > 1:
        return cluster.connect(found, num_gpus, options, runtime.worker_timeout)
    alone = tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec({}), num_accelerators={"GPU": num_gpus}
    )
    return tf.distribute.MultiWorkerMirroredStrategy(alone, options)


def _num_gpus(runtime) -> int:
    found = len(tf.config.list_physical_devices("GPU"))
    wanted = found if runtime.num_gpus < 0 else runtime.num_gpus
    if wanted > found:
        raise UserError(
            f"runtime.num_gpus is {wanted}, but TensorFlow sees {found} on this "
            "machine. Set it to -1 for all there are, 0 for the CPU."
        )
    return min(wanted, 1) if runtime.distribution_strategy == "one_device" else wanted


def _mirrored_cpu(num_devices: int) -> tf.distribute.Strategy:
    """Mirrored over logical CPUs, without collectives: between those they fail."""
    if num_devices == 1:
        return tf.distribute.OneDeviceStrategy("device:CPU:0")
    return tf.distribute.MirroredStrategy(
        [f"CPU:{i}" for i in range(num_devices)],
        cross_device_ops=tf.distribute.ReductionToOneDevice(),
    )


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process writes the files shared by all workers."""
    return strategy.extended.should_checkpoint


def synchronize_batch_norm(model):
    """Makes batch normalisation use the statistics of all replicas' batches."""
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = True


def share_dropout_masks(model):
    """Makes dropout independent of how a batch is divided among replicas.

    Each replica draws the mask of the batch of all replicas, which hold equal parts of
    it, and uses its rows. Keras's seed states are mirrored: all draw the same numbers.
    """
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.Dropout) and layer.rate:
            layer.call = _with_mask_of_all_replicas(layer, layer.call)


def _with_mask_of_all_replicas(layer, drop):
    def call(inputs, training=False):
        replicas = tf.distribute.get_replica_context()
        if not training or replicas is None or replicas.num_replicas_in_sync == 1:
            return drop(inputs, training=training)
        batch, *rest = keras.ops.shape(inputs)
        of_all = tf.ones((replicas.num_replicas_in_sync * batch, *rest), inputs.dtype)
        start = replicas.replica_id_in_sync_group * batch
        return inputs * drop(of_all, training=True)[start : start + batch]

    return call
