"""The logic that NonLocal1D, 2D, 3D and NonLocalBlock share."""

import keras
from keras import ops

from keras_nonlocal.layers import checks
from keras_nonlocal.layers.batch_normalization import BatchNormalization
from keras_nonlocal.layers.folding import TokenFolding
from keras_nonlocal.layers.initializers import clone_for
from keras_nonlocal.ops import attention_scores, non_local, spatial_max_pool

POOL_SIZE = 2


class BaseNonLocal(keras.layers.Layer):
    """A non-local block over `rank` axes; see `NonLocal3D` for the arguments."""

    rank = None  # None: taken from the input

    def __init__(
        self,
        mode="embedded_gaussian",
        intermediate_channels=None,
        sub_sample=True,
        pool_position="before",
        use_scale=True,
        use_bias=True,
        normalization="batch",
        scope="spacetime",
        group_size=None,
        use_output_bias=None,
        normalization_options=None,
        kernel_initializer=None,
        bias_initializer="zeros",
        kernel_regularizer=None,
        bias_regularizer=None,
        kernel_constraint=None,
        bias_constraint=None,
        data_format=None,
        activity_regularizer=None,
        **kwargs,
    ):
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        self.mode = mode
        self.intermediate_channels = intermediate_channels
        self.sub_sample = sub_sample
        self.pool_position = pool_position
        self.use_scale = use_scale
        self.use_bias = use_bias
        self.use_output_bias = use_output_bias
        self.normalization = normalization
        self.normalization_options = normalization_options
        self.scope = scope
        self.group_size = group_size
        self.data_format = keras.config.image_data_format()
        if data_format is not None:
            self.data_format = data_format
        if kernel_initializer is None:  # the released code's
            kernel_initializer = keras.initializers.RandomNormal(stddev=0.01)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.bias_regularizer = keras.regularizers.get(bias_regularizer)
        self.kernel_constraint = keras.constraints.get(kernel_constraint)
        self.bias_constraint = keras.constraints.get(bias_constraint)
        checks.check_arguments(self)

    @property
    def pools_keys(self):
        """Whether keys are pooled: never when attending along time alone."""
        return self.sub_sample and self.scope != "time"

    def build(self, input_shape):
        checks.check_input_shape(self, input_shape)
        self.input_spec = keras.layers.InputSpec(
            ndim=len(input_shape),
            axes={self._channel_axis: input_shape[self._channel_axis]},
        )
        channels = input_shape[self._channel_axis]
        width = self.intermediate_channels or max(channels // 2, 1)
        self._build_embeddings(channels, width)
        self._build_output((None,) * (len(input_shape) - 1) + (channels,), width)
        self.built = True

    def _build_embeddings(self, channels, width):
        self.theta = self.phi = self.concat_projection = None
        if self.mode != "gaussian":
            self.theta = self._projection("theta", channels, width)
            self.phi = self._projection("phi", channels, width)
        self.g = self._projection("g", channels, width)
        if self.mode == "concatenation":
            self.concat_projection = self._projection(
                "concat_projection", 2 * width, 1, use_bias=False
            )
        embeds = self.mode == "embedded_gaussian"
        self._scale = width**-0.5 if embeds and self.use_scale else None

    def _build_output(self, output_shape, width):
        channels = output_shape[-1]
        use_bias = self.use_output_bias
        use_bias = self.use_bias if use_bias is None else use_bias
        initializer = None if self.normalization else "zeros"
        self.w_z = self._projection(
            "w_z", width, channels, use_bias, kernel_initializer=initializer
        )
        self.norm = None
        if self.normalization:
            options = {"gamma_initializer": "zeros"} | (
                self.normalization_options or {}
            )
            self.norm = BatchNormalization(
                name="norm", dtype=self.dtype_policy, **options
            )
            self.norm.build(output_shape)

    def _projection(
        self, name, input_channels, channels, use_bias=None, kernel_initializer=None
    ):
        """A 1x1x1 convolution: a matrix product over the last axis."""
        layer = keras.layers.Dense(
            channels,
            use_bias=self.use_bias if use_bias is None else use_bias,
            kernel_initializer=kernel_initializer
            or clone_for(self.kernel_initializer, name),
            bias_initializer=clone_for(self.bias_initializer, name),
            kernel_regularizer=self.kernel_regularizer,
            bias_regularizer=self.bias_regularizer,
            kernel_constraint=self.kernel_constraint,
            bias_constraint=self.bias_constraint,
            dtype=self.dtype_policy,
            name=name,
        )
        layer.build((None, None, input_channels))
        return layer

    def call(self, inputs, training=None, return_attention_scores=False):
        checks.check_call_shape(self, inputs.shape)
        x = self._to_channels_last(inputs)
        fold = TokenFolding(ops.shape(x), self.scope, self.group_size)
        theta, phi, g = (fold(t) for t in self._embed(x))
        options = {
            "scale": self._scale,
            "concat_kernel": self.concat_projection and self.concat_projection.kernel,
        }
        if return_attention_scores:
            scores = attention_scores(theta, phi, self.mode, **options)
            y = ops.matmul(scores, g)
        else:
            y = non_local(theta, phi, g, self.mode, **options)
        z = self.w_z(fold.undo(y))
        if self.norm is not None:
            z = self.norm(z, training=training)
        z = self._from_channels_last(x + z)
        if return_attention_scores:
            return z, fold.split_groups(scores)
        return z

    def _embed(self, x):
        """theta, phi and g before flattening; phi and g hold the pooled keys."""
        pool = spatial_max_pool if self.pools_keys else lambda t: t
        phi = self.phi or (lambda t: t)
        theta = self.theta(x) if self.theta else x
        if self.pool_position == "before":
            keys = pool(x)
            return theta, phi(keys), self.g(keys)
        return theta, pool(phi(x)), pool(self.g(x))

    @property
    def _channel_axis(self):
        return 1 if self.data_format == "channels_first" else -1

    def _to_channels_last(self, x):
        if self.data_format == "channels_last":
            return x
        return ops.moveaxis(x, 1, -1)

    def _from_channels_last(self, x):
        if self.data_format == "channels_last":
            return x
        return ops.moveaxis(x, -1, 1)

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def compute_output_spec(self, inputs, training=None, return_attention_scores=False):
        checks.check_call_shape(self, inputs.shape)
        z = keras.KerasTensor(inputs.shape, dtype=self.compute_dtype)
        if not return_attention_scores:
            return z
        return z, keras.KerasTensor(
            self._scores_shape(inputs.shape), dtype=self.compute_dtype
        )

    def _scores_shape(self, input_shape):
        shape = list(input_shape)
        shape.append(shape.pop(self._channel_axis))
        keys = list(shape)
        if self.pools_keys:
            for axis in checks.pooled_axes(len(shape) - 2):
                keys[axis] = None if keys[axis] is None else keys[axis] // POOL_SIZE
        queries = TokenFolding(shape, self.scope, self.group_size)
        keys = TokenFolding(keys, self.scope, self.group_size)
        return (shape[0], *queries.groups, queries.length, keys.length)

    def get_config(self):
        config = super().get_config()
        for name in (
            "mode",
            "intermediate_channels",
            "sub_sample",
            "pool_position",
            "use_scale",
            "use_bias",
            "use_output_bias",
            "normalization",
            "normalization_options",
            "scope",
            "group_size",
            "data_format",
        ):
            config[name] = getattr(self, name)
        for kind in ("initializers", "regularizers", "constraints"):
            serialize = getattr(keras, kind).serialize
            for target in ("kernel", "bias"):
                name = f"{target}_{kind.removesuffix('s')}"
                config[name] = serialize(getattr(self, name))
        config["activity_regularizer"] = keras.regularizers.serialize(
            self.activity_regularizer
        )
        return config
