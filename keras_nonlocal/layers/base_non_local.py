"""The logic that NonLocal1D, 2D, 3D and NonLocalBlock share."""

import inspect
import math

import keras
from keras import ops

from keras_nonlocal.layers import checks
from keras_nonlocal.layers.batch_normalization import BatchNormalization
from keras_nonlocal.layers.contraction_order import Sizes, cheapest_order
from keras_nonlocal.layers.mixing import mix
from keras_nonlocal.layers.projections import (
    embed,
    kernel_of,
    make_projection,
    project,
)
from keras_nonlocal.layers.token_groups import TokenGroups
from keras_nonlocal.ops import KEY_POOL_SIZE, attention_scores, spatial_max_pool
from keras_nonlocal.ops.pairwise import PAIRWISE

# By what the names of arguments end with.
_SERIALIZERS = {
    "initializer": keras.initializers.serialize,
    "regularizer": keras.regularizers.serialize,
    "constraint": keras.constraints.serialize,
}


class BaseNonLocal(keras.layers.Layer):
    """A non-local block over `rank` axes; see `NonLocal3D` for the arguments.

    Attributes:
        contraction_order: `ContractionOrder` of every call. None: the cheapest for
            the shape of the input.
    """

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
        algorithm="auto",
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
        self.algorithm = algorithm
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
        self.projection_dtypes = {}  # of those that `quantize` has changed
        self.contraction_order = None
        checks.check_arguments(self)

    @property
    def pools_keys(self):
        """Whether keys are pooled: never when attending along time alone."""
        return self.sub_sample and self.scope != "time"

    def key_pool_sizes(self, rank):
        """The window of that pooling along each of `rank` axes: 1 along time."""
        size = KEY_POOL_SIZE if self.pools_keys else 1
        return (1, size, size) if rank == 3 else (size,) * rank

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
        pairwise = PAIRWISE[self.mode]
        sizes = (channels, width, self.use_bias)
        self.theta = self.phi = self.concat_projection = self.scale = None
        if pairwise.embeds:
            self.theta = make_projection(self, "theta", *sizes)
            self.phi = make_projection(self, "phi", *sizes)
            if pairwise.takes_scale and self.use_scale:
                self.scale = width**-0.5
        self.g = make_projection(self, "g", *sizes)
        if pairwise.takes_concat_kernel:
            self.concat_projection = make_projection(
                self, "concat_projection", 2 * width, 1, use_bias=False
            )

    def _build_output(self, output_shape, width):
        channels = output_shape[-1]
        use_bias = self.use_output_bias
        use_bias = self.use_bias if use_bias is None else use_bias
        initializer = None if self.normalization else "zeros"
        self.w_z = make_projection(self, "w_z", width, channels, use_bias, initializer)
        self.norm = None
        if self.normalization:
            options = {"name": "norm", "dtype": self.dtype_policy}
            options |= {"gamma_initializer": "zeros"}
            options |= self.normalization_options or {}
            self.norm = BatchNormalization(**options)
            self.norm.build(output_shape)

    def call(
        self, inputs, training=None, return_attention_scores=False, query_indices=None
    ):
        self._check_call(inputs.shape, return_attention_scores, query_indices)
        x = ops.moveaxis(inputs, self._channel_axis, -1)
        groups = TokenGroups(ops.shape(x), self.scope, self.group_size)
        z = self._mix(x, groups, self.contraction_order_for(inputs.shape), training)
        z = ops.moveaxis(x + z, -1, self._channel_axis)
        if not return_attention_scores:
            return z
        return z, groups.separate(self._scores(x, groups, query_indices))

    def _mix(self, x, groups, order, training):
        """The map of W_z y, normalised."""
        kernel, bias, norm = self._output_weights(training)
        phi, g = self._embed_keys(x, with_phi=not self.splits_keys)
        tokens = (groups.from_map(t) for t in (x, phi, g))
        y = groups.to_map(mix(self, *tokens, kernel, order))
        z = y if order.fold_w_z else project(y, kernel)
        z = z if bias is None else z + bias
        return z if norm is None else norm(z, training=training)

    def _output_weights(self, training):
        """W_z, its bias, and the normalisation unless it is folded into them."""
        kernel = kernel_of(self.w_z)
        bias = self.w_z.bias if self.w_z.use_bias else None
        if self.norm is None or (training and self.norm.trainable):
            return kernel, bias, self.norm
        scale, offset = self.norm.scale_and_offset()
        bias = offset if bias is None else scale * bias + offset
        dtype = kernel.dtype
        return ops.cast(kernel * scale, dtype), ops.cast(bias, dtype), None

    @property
    def is_identity(self):
        """Whether a built block returns its inputs: W_z, normalised, is zero."""
        kernel, bias, _ = self._output_weights(training=False)
        return not any(ops.any(x != 0) for x in (kernel, bias) if x is not None)

    def _scores(self, x, groups, query_indices):
        """f / C of all queries, or of those in `query_indices`."""
        phi, _ = self._embed_keys(x)
        queries = groups.from_map(x)
        if query_indices is not None:
            queries = ops.take(queries, query_indices, axis=1)
        theta = embed(self.theta, queries) if self.theta else queries
        kernel = self.concat_projection and kernel_of(self.concat_projection)
        phi = groups.from_map(phi)
        return attention_scores(
            theta, phi, self.mode, scale=self.scale, concat_kernel=kernel
        )

    def contraction_order_for(self, input_shape):
        """The `ContractionOrder` of a call on this shape."""
        if self.contraction_order is not None:
            return self.contraction_order
        return cheapest_order(self.mode, self.algorithm, self.sizes_of(input_shape))

    def sizes_of(self, input_shape):
        """`Sizes` of a call on this shape."""
        shape = self._scores_shape(checks.known_sizes(input_shape))
        *groups, num_queries, num_keys = shape
        groups = None if None in groups else math.prod(groups)
        channels, width = self.g.input_spec.axes[-1], self.g.units
        embedded = num_keys if self.pool_position == "before" else num_queries
        return Sizes(groups, num_queries, num_keys, channels, width, embedded)

    @property
    def splits_keys(self):
        """Whether w_f . phi is taken from the keys, without embedding them."""
        split = PAIRWISE[self.mode].takes_concat_kernel
        return split and self.pool_position == "before"

    def _embed_keys(self, x, with_phi=True):
        """phi and g before flattening; both hold the pooled keys."""
        pool = spatial_max_pool if self.pools_keys else lambda t: t
        keys = x
        if self.pool_position == "before":
            keys, pool = pool(x), lambda t: t
        phi = embed(self.phi, keys) if self.phi and with_phi else keys
        return pool(phi), pool(embed(self.g, keys))

    @property
    def _channel_axis(self):
        return 1 if self.data_format == "channels_first" else -1

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def compute_output_spec(
        self, inputs, training=None, return_attention_scores=False, query_indices=None
    ):
        self._check_call(inputs.shape, return_attention_scores, query_indices)
        z = keras.KerasTensor(inputs.shape, dtype=self.compute_dtype)
        if not return_attention_scores:
            return z
        *groups, num_queries, num_keys = self._scores_shape(inputs.shape)
        if query_indices is not None:
            num_queries = len(query_indices)
        shape = (*groups, num_queries, num_keys)
        return z, keras.KerasTensor(shape, dtype=self.compute_dtype)

    def _check_call(self, input_shape, return_attention_scores, query_indices):
        checks.check_call_shape(self, input_shape)
        if query_indices is not None:
            num_queries = self._scores_shape(input_shape)[-2]
            checks.check_query_indices(
                self, query_indices, num_queries, return_attention_scores
            )

    def _scores_shape(self, input_shape):
        batch, *sizes = input_shape
        channels = sizes.pop(0 if self._channel_axis == 1 else -1)
        pooled = [
            None if size is None else size // window
            for size, window in zip(sizes, self.key_pool_sizes(len(sizes)), strict=True)
        ]
        queries, keys = (
            TokenGroups((batch, *axes, channels), self.scope, self.group_size)
            for axes in (sizes, pooled)
        )
        return (batch, *queries.groups, queries.length, keys.length)

    def get_config(self):
        config = super().get_config()
        _, *names, _ = inspect.signature(BaseNonLocal.__init__).parameters
        for name in names:
            serialize = _SERIALIZERS.get(name.split("_")[-1], lambda value: value)
            config[name] = serialize(getattr(self, name))
        quantized = self._quantized_dtypes()
        return config | ({"projection_dtypes": quantized} if quantized else {})

    def _quantized_dtypes(self):
        """Policies, by name, of the projections that `quantize` has changed."""
        if not self.built:
            return dict(self.projection_dtypes)
        layers = (self.theta, self.phi, self.g, self.concat_projection, self.w_z)
        return {
            layer.name: keras.dtype_policies.serialize(layer.dtype_policy)
            for layer in layers
            if layer is not None and layer.quantization_mode
        }

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        projection_dtypes = config.pop("projection_dtypes", {})
        layer = super().from_config(config)
        layer.projection_dtypes = projection_dtypes
        return layer
