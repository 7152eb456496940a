"""Blocks inserted into existing networks: equal outputs, and every kind of graph."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_nonlocal import (
    C2D,
    I3D,
    NonLocal1D,
    NonLocal2D,
    NonLocal3D,
    NonLocalBlock,
    describe,
    fold_batch_norm,
    insert_blocks,
)
from tests.backends import to_numpy


def images(*shape):
    return np.random.default_rng(0).normal(size=(2, *shape)).astype("float32")


def outputs(model, x, **options):
    return [to_numpy(y) for y in keras.tree.flatten(model(x, **options))]


def assert_equal(model, other, x):
    for expected, actual in zip(outputs(model, x), outputs(other, x), strict=True):
        assert expected.std() > 0 and expected.dtype == actual.dtype
        np.testing.assert_array_equal(actual, expected)


def open_block(block):
    """Lets a block change its inputs."""
    block.norm.gamma.assign(np.linspace(1e3, 2e3, block.norm.gamma.shape[0]))
    return block


def assert_every_output_changes(model, x, block):
    before = outputs(model, x)
    open_block(block)
    for old, new in zip(before, outputs(model, x), strict=True):
        assert np.abs(new - old).max() > 1e-6
    block.norm.gamma.assign(np.zeros(block.norm.gamma.shape))


def assert_saved(model, x, folder):
    model.save(folder / "inserted.keras")
    loaded = keras.saving.load_model(folder / "inserted.keras")
    assert_equal(model, loaded, x)
    paths = [[weight.path for weight in each.weights] for each in (model, loaded)]
    assert paths[0] == paths[1]


def network():
    """The outputs of `a` are used three times, once as an output."""
    x = keras.Input((8, 8, 3), name="images")
    a = layers.Conv2D(4, 3, padding="same", activation="relu", name="a")(x)
    b = layers.Conv2D(4, 3, padding="same", name="b")(a)
    y = layers.GlobalAveragePooling2D(name="pool")(layers.Add(name="sum")([a, b]))
    return keras.Model(x, [layers.Dense(5, name="pred")(y), a], name="net")


# === What the copy computes ===


def test_every_use_of_a_layer_sees_the_block(tmp_path):
    model, x, block = network(), images(8, 8, 3), NonLocalBlock()
    new = insert_blocks(model, after={"a": block})
    assert new.name == "net" and new.get_layer("a_nonlocal") is block
    assert_equal(model, new, x)
    assert_saved(new, x, tmp_path)

    get = model.get_layer
    a = open_block(block)(get("a")(x))
    pred = get("pred")(get("pool")(a + get("b")(a)))
    for actual, expected in zip(outputs(new, x), (pred, a), strict=True):
        np.testing.assert_allclose(actual, to_numpy(expected), rtol=1e-5, atol=1e-6)
    assert not np.array_equal(outputs(new, x)[0], outputs(model, x)[0])


def test_several_blocks_and_blocks_after_blocks(tmp_path):
    model, x = network(), images(8, 8, 3)
    first = insert_blocks(model, {"a": NonLocalBlock(), "sum": NonLocal2D(name="two")})
    second = insert_blocks(first, {"a_nonlocal": NonLocal2D(mode="dot_product")})
    names = ["a_nonlocal", "a_nonlocal_nonlocal", "two"]
    blocks = [layer.name for layer in second.layers if "non_local" in str(type(layer))]
    assert blocks == names
    assert_equal(model, second, x)
    assert_saved(second, x, tmp_path)
    for name in names[:2]:
        assert_every_output_changes(second, x, second.get_layer(name))


def test_a_training_step_changes_copied_layers_as_before_and_the_block():
    model, x = network(), images(8, 8, 3)
    block = NonLocalBlock()
    new = insert_blocks(model, after={"a": block})
    initial = {weight.path: to_numpy(weight) for weight in model.weights}
    theta = to_numpy(block.theta.kernel)
    targets = [np.ones((2, 5)), np.ones((2, 8, 8, 4))]
    for each in (new, model):
        each.compile(keras.optimizers.SGD(0.1), ["mse", "mse"])
        each.train_on_batch(x, targets)
        if each is new:
            for weight in model.weights:  # not shared
                np.testing.assert_array_equal(to_numpy(weight), initial[weight.path])
    trained = {weight.path: to_numpy(weight) for weight in new.weights}
    for weight in model.weights:
        expected = to_numpy(weight)
        assert np.abs(expected - initial[weight.path]).max() > 1e-4
        np.testing.assert_allclose(trained[weight.path], expected, rtol=0, atol=1e-6)
    assert np.abs(to_numpy(block.norm.gamma)).max() > 1e-6
    new.train_on_batch(x, targets)  # gamma is no longer zero
    assert np.abs(to_numpy(block.theta.kernel) - theta).max() > 0


def test_training_outputs_with_the_state_of_random_generators():
    x = keras.Input((8, 8, 3))
    y = layers.BatchNormalization()(layers.Conv2D(4, 3, name="conv")(x))
    y = layers.GlobalAveragePooling2D()(layers.Dropout(0.5)(y))
    model = keras.Model(x, y)
    for _ in range(3):
        model(images(8, 8, 3), training=True)
    new = insert_blocks(model, after={"conv": NonLocalBlock()})
    assert_equal(model, new, images(8, 8, 3))
    results = []
    for each in (model, new):
        keras.utils.set_random_seed(2)  # PyTorch's dropout has no state of its own
        results += outputs(each, images(8, 8, 3), training=True)
    np.testing.assert_array_equal(*results)
    assert_equal(model, new, images(8, 8, 3))  # the same moving statistics


def test_an_adapted_normalization():
    normalization = layers.Normalization(name="normalization")
    normalization.adapt(3 + 2 * images(8, 8, 3))
    x = keras.Input((8, 8, 3))
    model = keras.Model(x, layers.Conv2D(4, 3, name="conv")(normalization(x)))
    new = insert_blocks(model, after={"conv": NonLocalBlock()})
    assert_equal(model, new, images(8, 8, 3))


# === Kinds of graphs ===


def test_a_layer_that_is_called_several_times_is_followed_by_one_block(tmp_path):
    one, two = keras.Input((8, 8, 3)), keras.Input((None, 6, 3))
    shared = layers.Conv2D(4, 3, name="shared")
    pool = layers.GlobalAveragePooling2D()
    model = keras.Model([one, two], [pool(shared(one)), pool(shared(two))])
    new = insert_blocks(model, after={"shared": NonLocalBlock()})
    assert len(new.weights) == 2 + len(new.get_layer("shared_nonlocal").weights)
    x = [images(8, 8, 3), images(7, 6, 3)]
    assert_equal(model, new, x)
    assert_saved(new, x, tmp_path)
    assert_every_output_changes(new, x, new.get_layer("shared_nonlocal"))


def nested():
    """A functional model, called twice, with a Sequential one in it."""
    x = keras.Input((8, 8, 3))
    y = layers.Conv2D(4, 3, name="conv")(x)
    stack = [keras.Input((6, 6, 4)), layers.ReLU(name="relu"), layers.Conv2D(4, 1)]
    backbone = keras.Model(x, keras.Sequential(stack, name="stack")(y), name="backbone")
    one, two = keras.Input((8, 8, 3)), keras.Input((8, 8, 3))
    heads = [layers.GlobalMaxPooling2D()(backbone(x)) for x in (one, two)]
    return keras.Model([one, two], heads)


@pytest.mark.parametrize("path", ["backbone/conv", "backbone/stack/relu", "backbone"])
def test_layers_of_models_within_models(path, tmp_path):
    model, x = nested(), [images(8, 8, 3), images(8, 8, 3) + 1]
    block = NonLocalBlock()
    new = insert_blocks(model, after={path: block})
    assert block.name == f"{path.split('/')[-1]}_nonlocal"
    assert_equal(model, new, x)
    assert_saved(new, x, tmp_path)
    assert_every_output_changes(new, x, block)


def test_a_layer_shared_with_a_model_within_stays_shared():
    conv = layers.Conv2D(3, 3, padding="same", name="conv")
    x = keras.Input((8, 8, 3))
    inner = keras.Model(x, conv(x), name="inner")
    y = keras.Input((8, 8, 3))
    model = keras.Model(y, conv(inner(y)))
    new = insert_blocks(model, after={"inner": NonLocalBlock()})
    assert new.get_layer("inner").get_layer("conv") is new.get_layer("conv")
    assert_equal(model, new, images(8, 8, 3))


def test_sequential_models(tmp_path):
    stack = [layers.Conv2D(4, 3, name="conv"), layers.Flatten(), layers.Dense(2)]
    model = keras.Sequential(stack, name="stack")
    with pytest.raises(ValueError, match="Sequential one that has been built"):
        insert_blocks(model, after={"conv": NonLocalBlock()})
    model.build((None, 8, 8, 3))
    new = insert_blocks(model, after={"conv": NonLocalBlock()})
    assert [layer.name for layer in new.layers[1:3]] == ["conv", "conv_nonlocal"]
    assert_equal(model, new, images(8, 8, 3))
    assert_saved(new, images(8, 8, 3), tmp_path)


def test_structures_of_inputs_and_outputs(tmp_path):
    x = {
        "pixels": keras.Input((8, 8, 3), batch_size=2, dtype="uint8", name="pixels"),
        "offset": keras.Input((1,), name="offset"),
    }
    y = layers.Conv2D(4, 3, name="conv")(layers.Rescaling(1 / 255)(x["pixels"]))
    z = layers.Add()([layers.GlobalAveragePooling2D()(y), x["offset"]])
    model = keras.Model(x, {"map": y, "sum": z})
    new = insert_blocks(model, after={"conv": NonLocalBlock()})
    assert new.input["pixels"].dtype == "uint8" and new.output.keys() == {"map", "sum"}
    assert new.input["pixels"].shape == (2, 8, 8, 3)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3)).astype("uint8")
    batch = {"pixels": pixels, "offset": np.array([[1.0], [2.0]], "float32")}
    assert_equal(model, new, batch)
    assert_saved(new, batch, tmp_path)
    assert_every_output_changes(new, batch, new.get_layer("conv_nonlocal"))


def test_operations_and_layers_without_a_config():
    x = keras.Input((8, 8, 3))
    y = layers.Conv2D(4, 3, name="conv")(x)
    y = keras.ops.relu(y * 2.0 + y)[:, 1:]
    y = layers.Lambda(lambda t: t - 1, name="lambda")(y)
    model = keras.Model(x, keras.ops.concatenate([y, y], axis=1))
    product = next(x.name for x in model.operations if type(x).__name__ == "Multiply")
    new = insert_blocks(model, {"conv": NonLocalBlock(), product: NonLocalBlock()})
    assert_equal(model, new, images(8, 8, 3))
    for name in ("conv_nonlocal", f"{product}_nonlocal"):
        assert_every_output_changes(new, images(8, 8, 3), new.get_layer(name))


def test_a_vocabulary_that_was_adapted():
    if keras.backend.backend() != "tensorflow":
        pytest.skip("StringLookup is a layer of TensorFlow")
    lookup = layers.StringLookup(name="lookup")
    lookup.adapt(np.array(["a", "b", "c"]))
    x = keras.Input((4,), dtype="string")
    model = keras.Model(x, layers.Embedding(4, 3, name="embedding")(lookup(x)))
    new = insert_blocks(model, after={"embedding": NonLocal1D(sub_sample=False)})
    assert_equal(model, new, keras.ops.convert_to_tensor([["a", "b", "c", "z"]]))


@pytest.mark.filterwarnings("ignore:Layer 'embedding_nonlocal'.*mask")
def test_masks_reach_the_layers_behind_the_block():
    x = keras.Input((10,), dtype="int32")
    y = layers.Embedding(5, 4, mask_zero=True, name="embedding")(x)
    model = keras.Model(x, layers.GlobalAveragePooling1D()(y))
    new = insert_blocks(model, after={"embedding": NonLocal1D()})
    assert_equal(model, new, np.array([[1, 2, 0, 0] + 6 * [0], 10 * [3]], "int32"))


def test_video_networks_with_and_without_blocks():
    options = {"depth": 14, "num_classes": 5, "input_shape": (4, 48, 48, 3), "width": 4}
    model, x = I3D(**options, non_local={"res4": [0]}), images(4, 48, 48, 3)
    open_block(model.get_layer("res4_0_nonlocal"))
    new = insert_blocks(model, after={"res3_0_out": NonLocal3D(group_size=2)})
    assert_equal(model, new, x)
    placed = ("res3_0_out_nonlocal", "res4_0_nonlocal")
    assert describe(new).non_local_blocks == placed
    assert_every_output_changes(new, x, new.get_layer(placed[0]))
    open_block(new.get_layer(placed[0]))
    folded = outputs(fold_batch_norm(new), x)[0]
    np.testing.assert_allclose(folded, outputs(new, x)[0], rtol=1e-4, atol=1e-6)


def test_an_inserted_block_counts_like_one_of_the_network():
    options = {"depth": 14, "num_classes": 5, "input_shape": (4, 48, 48, 3), "width": 4}
    built = describe(C2D(**options, non_local={"res3": [0]}))
    new = insert_blocks(C2D(**options), after={"res3_0_out": NonLocalBlock()})
    assert describe(new).macs == built.macs and built.macs.pairwise > 0
    assert describe(new).params == built.params


# === What is kept ===


def trains(model):
    return {weight.path: weight.trainable for weight in model.weights}


@pytest.mark.parametrize("frozen", ["a layer", "the model", "a part of a layer"])
def test_trainable_flags(frozen):
    model = insert_blocks(network(), after={"b": NonLocalBlock()})
    if frozen == "the model":
        model.trainable = False
    elif frozen == "a layer":
        model.get_layer("b").trainable = False
    else:
        model.get_layer("b_nonlocal").norm.trainable = False
    block = NonLocalBlock()
    new = insert_blocks(model, after={"a": block})
    expected = {weight.path for weight in model.trainable_weights}
    assert 0 <= len(expected) < len(model.weights) - 2  # without the moving statistics
    expected |= {weight.path for weight in block.trainable_weights}
    assert {weight.path for weight in new.trainable_weights} == expected
    norms = [each.get_layer("b_nonlocal").norm.trainable for each in (model, new)]
    assert norms[0] == norms[1] == (frozen == "a layer")


def test_a_frozen_model_within_a_model_stays_frozen():
    model = nested()
    model.get_layer("backbone").trainable = False
    block = NonLocalBlock()
    new = insert_blocks(model, after={"backbone/conv": block})
    paths = {weight.path for weight in block.trainable_weights}
    assert paths and {weight.path for weight in new.trainable_weights} == paths


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "float64"])
def test_dtype_policies(policy, tmp_path):
    if policy == "float64" and keras.backend.backend() != "tensorflow":
        pytest.skip("keras.ops computes in float64 on TensorFlow only")
    x = keras.Input((8, 8, 3))
    y = layers.Conv2D(4, 3, name="conv", dtype=policy)(x)
    y = layers.GlobalAveragePooling2D(dtype=policy)(y)
    model = keras.Model(x, [y, layers.Dense(3, dtype="float32")(y)])
    wrong = rf"block computes in float32. Use NonLocalBlock\(dtype='{policy}'\)"
    with pytest.raises(ValueError, match=wrong):
        insert_blocks(model, after={"conv": NonLocalBlock()})
    new = insert_blocks(model, after={"conv": NonLocalBlock(dtype=policy)})
    assert_equal(model, new, images(8, 8, 3))
    assert_saved(new, images(8, 8, 3), tmp_path)


class Doubling(keras.Model):
    """A functional model with a step of its own."""

    def predict_step(self, data):
        return 2 * super().predict_step(data)


class Extended(keras.Model):
    """A functional model that needs more than its graph."""

    def __init__(self, inputs, outputs, name, labels):
        super().__init__(inputs, outputs, name=name)
        self.labels = labels


class Backbone(keras.Model):
    """A functional model that builds its own graph."""

    def __init__(self, filters, **kwargs):
        x = keras.Input((8, 8, 3))
        super().__init__(x, layers.Conv2D(filters, 3, name="conv")(x), **kwargs)


def test_classes_of_models():
    net, x = network(), images(8, 8, 3)
    model = Doubling(net.input, net.output[0], name="doubling")
    new = insert_blocks(model, after={"a": NonLocalBlock()})
    assert type(new) is Doubling and new.name == "doubling"
    assert_equal(model, new, x)
    extended = Extended(net.input, net.output[0], "extended", labels=["a"])
    for model, name in ((Backbone(4), "conv"), (extended, "a")):
        plain = insert_blocks(model, after={name: NonLocalBlock()})
        assert type(plain) is type(net)
        assert_equal(model, plain, x)


def test_a_model_that_was_trained_is_copied_uncompiled():
    model = network()
    model.compile("adam", lambda y_true, y_pred: keras.ops.mean(y_pred))
    model.train_on_batch(images(8, 8, 3), [np.ones((2, 5)), np.ones((2, 8, 8, 4))])
    new = insert_blocks(model, after={"a": NonLocalBlock()})
    assert model.compiled and not new.compiled
    assert_equal(model, new, images(8, 8, 3))


# === Errors ===


class Subclassed(keras.Model):
    """A model without a graph."""

    def call(self, inputs):
        return inputs


class Own(layers.Dense):
    """A layer that its config does not describe."""

    def __init__(self, arguments, **kwargs):
        super().__init__(*arguments, **kwargs)


@pytest.mark.parametrize("model", [Subclassed(), layers.Dense(2), "resnet50"])
def test_only_models_with_a_graph(model):
    with pytest.raises(
        ValueError, match="insert_blocks needs a functional keras.Model"
    ):
        insert_blocks(model, after={"conv": NonLocalBlock()})


@pytest.mark.parametrize(
    "after", [{}, None, {"a": layers.ReLU()}, {0: NonLocalBlock()}]
)
def test_after_maps_names_to_blocks(after):
    with pytest.raises(ValueError, match="`after` of insert_blocks. Expected a dict"):
        insert_blocks(network(), after=after)


WITHOUT_NORM = {"normalization": None, "bias_initializer": "ones"}


@pytest.mark.parametrize(
    "path, options, message",
    [
        ("sums", {}, "model 'net' has no layer 'sums'. Did you mean 'sum'?"),
        ("images", {}, "'images': ...}: .*this is an input"),
        ("a/conv", {}, r"'a/conv': .*layer 'a' \(Conv2D\) is not a functional model"),
        ("pred", {}, r"'pred': .*expects inputs of rank 3.*input_shape=\(None, 5\)"),
        ("a", {"name": "b"}, r"'a': .*a layer 'b' already; .*\(name='b_2'\)"),
        ("a", {"dtype": "bfloat16"}, r"'a': .*are float32.*\(dtype='float32'\)"),
        (
            "a",
            {"normalization_options": {"gamma_initializer": "ones"}},
            "'a': .*would change the outputs; gamma and beta must be zero",
        ),
        (
            "a",
            WITHOUT_NORM,
            "'a': .*would change the outputs; W_z and its bias must be",
        ),
    ],
)
def test_places_that_do_not_fit(path, options, message):
    block = NonLocalBlock(**options)
    name = block.name
    with pytest.raises(ValueError, match=message):
        insert_blocks(network(), after={path: block})
    assert block.name == name and not block.built  # it can be used elsewhere


def test_a_block_that_does_not_take_the_map_is_named_with_the_layer():
    x = keras.Input((None, None, None))
    y = layers.ReLU(name="any")(x)
    pooled = layers.MaxPooling2D(8, name="small")(keras.Input((8, 8, 3)))
    for output, message in (
        (y, "'any': .*channel axis must be defined"),
        (pooled, "'small': .*too small for its keys .*sub_sample=False"),
    ):
        layer = output._keras_history.operation
        with pytest.raises(ValueError, match=message):
            insert_blocks(keras.Model(layer.input, output), {layer.name: NonLocal2D()})


def test_a_layer_with_several_outputs():
    x = keras.Input((8, 3))
    y, *_ = layers.LSTM(4, return_sequences=True, return_state=True, name="lstm")(x)
    with pytest.raises(ValueError, match="'lstm': .*the layer has 3 outputs"):
        insert_blocks(keras.Model(x, y), after={"lstm": NonLocalBlock()})


def test_a_layer_within_is_suggested_by_its_path():
    with pytest.raises(ValueError, match="'conv'. Did you mean 'backbone/conv'?"):
        insert_blocks(nested(), after={"conv": NonLocalBlock()})


def test_blocks_and_places_are_used_once():
    block = NonLocalBlock()
    with pytest.raises(ValueError, match="'b': .*is given twice: use two blocks"):
        insert_blocks(network(), after={"a": block, "b": block})
    new = insert_blocks(network(), after={"a": block})
    with pytest.raises(
        ValueError, match="'b': .*'a_nonlocal' is in use: pass a new one"
    ):
        insert_blocks(network(), after={"b": block})
    with pytest.raises(
        ValueError, match="'a': .*there is a layer 'a_nonlocal' already"
    ):
        insert_blocks(new, after={"a": NonLocalBlock()})


def test_layers_that_cannot_be_copied():
    x = keras.Input((8, 8, 3))
    y = Own([3], name="own")(x)
    with pytest.raises(ValueError, match=r"'own' \(Own\) cannot be copied.*get_config"):
        insert_blocks(keras.Model(x, y), after={"own": NonLocalBlock()})


def test_weights_outside_of_the_graph():
    model = network()
    model.extra = layers.Dense(2, name="extra")
    model.extra.build((None, 3))
    with pytest.raises(ValueError, match=r"outside of its graph.*'extra/kernel'"):
        insert_blocks(model, after={"a": NonLocalBlock()})
