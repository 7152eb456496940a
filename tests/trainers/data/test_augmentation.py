"""RandAugment, mixup and CutMix, off by default."""

import collections

import numpy as np
import pytest
import tensorflow as tf

from tests.trainers.runs import run
from trainers.core import checkpoint_files
from trainers.core.errors import UserError
from trainers.video_classification.data import load_index, make_dataset
from trainers.video_classification.data.augmentation import (
    Mixing,
    RandAugment,
    apply_operation,
)
from trainers.video_classification.data.augmentation_configs import (
    OPERATIONS,
    AugmentationConfig,
    MixupAndCutmixConfig,
    RandAugmentConfig,
)

RANDOM = np.random.default_rng(0)
CLIP = RANDOM.integers(20, 200, (3, 10, 12, 3), np.uint8)


def rand_augment(**settings):
    return AugmentationConfig(type="randaug", randaug=RandAugmentConfig(**settings))


def only(*names):
    """`exclude_ops` of all others: a graph with all operations takes seconds."""
    return [name for name in OPERATIONS if name not in names]


ALL_ON = {
    "aug_type": rand_augment(exclude_ops=only("Invert", "Color", "TranslateX")),
    "mixup_and_cutmix": MixupAndCutmixConfig(mixup_alpha=0.8, cutmix_alpha=1.0),
}


@pytest.fixture
def batches(data_config, clip_config):
    """Function that reads training batches of the numbered videos."""

    def read(count, settings, seed=3, **options):
        data = data_config(**settings)
        made = make_dataset(load_index(data), data, clip_config, seed=seed, **options)
        return list(made.take(count).as_numpy_iterator())

    return read


def assert_same(got, expected):
    assert len(got) == len(expected)
    for a, b in zip(got, expected, strict=True):
        for key in b:
            np.testing.assert_array_equal(a[key], b[key], err_msg=key)


# === RandAugment ===


def contrast(clip, factor):
    mean = clip.mean(axis=(1, 2), keepdims=True)
    return mean + factor * (clip - mean)


def gray(clip):
    return (clip @ [0.2989, 0.587, 0.114])[..., None]


def shifted(clip, axis, pixels):
    """Pixel x comes from x + pixels; pixels from beyond an edge are reflected."""
    widths = [(abs(pixels),) * 2 if i == axis else (0, 0) for i in range(4)]
    padded = np.pad(clip, widths, mode="symmetric")
    start = abs(pixels) - pixels
    return np.take(padded, range(start, start + clip.shape[axis]), axis)


def stretched(clip):
    lowest, highest = (f(clip, axis=(0, 1, 2)) for f in (np.min, np.max))
    return (clip - lowest) * 255 / (highest - lowest)


@pytest.mark.parametrize(
    ("name", "magnitude", "expected"),
    [
        ("AutoContrast", 10, stretched),
        ("Invert", 10, lambda x: 255 - x),
        ("Posterize", 10, lambda x: x // 16 * 16),
        ("Posterize", 5, lambda x: x // 4 * 4),
        ("Solarize", 5, lambda x: np.where(x < 128, x, 255 - x)),
        ("Solarize", 10, lambda x: 255 - x),
        ("SolarizeAdd", 10, lambda x: np.where(x < 128, np.minimum(x + 110, 255), x)),
        ("Brightness", 10, lambda x: 1.9 * x),
        ("Brightness", -10, lambda x: 0.1 * x),
        ("Color", 5, lambda x: gray(x) + 1.45 * (x - gray(x))),
        ("Contrast", -5, lambda x: contrast(x, 0.55)),
        ("TranslateX", 10, lambda x: shifted(x, 2, 3)),
        ("TranslateY", -10, lambda x: shifted(x, 1, -3)),
    ],
)
def test_operations_by_value(name, magnitude, expected):
    computed = apply_operation(name, tf.constant(CLIP), magnitude, 3.0)
    expected = np.clip(expected(CLIP.astype(np.float64)), 0, 255)
    np.testing.assert_allclose(computed, expected, atol=1.5)  # of rounding twice
    assert computed.dtype == tf.uint8


@pytest.mark.parametrize("name", OPERATIONS)
def test_all_frames_undergo_the_same(name):
    still = np.broadcast_to(CLIP[:1], (4, *CLIP.shape[1:]))
    computed = apply_operation(name, tf.constant(still), 8, 3.0).numpy()
    assert (computed != still).any()
    np.testing.assert_array_equal(computed, computed[[1, 2, 3, 0]])


@pytest.mark.parametrize("magnitude", [9, -9])
@pytest.mark.parametrize("name", ["Rotate", "ShearX", "ShearY"])
def test_rotation_and_shear_by_value(name, magnitude):
    """Output (x, y) is input `matrix` (x, y); shears are about the first pixel."""
    angle, shear = np.radians(3 * magnitude), 0.03 * magnitude
    matrix, centre = {
        "Rotate": (
            [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]],
            [[5.5], [4.5]],
        ),
        "ShearX": ([[1, shear], [0, 1]], 0),
        "ShearY": ([[1, 0], [shear, 1]], 0),
    }[name]
    rows, columns = (x.ravel() for x in np.indices(CLIP.shape[1:3]))
    x, y = matrix @ (np.stack([columns, rows]) - centre) + centre
    inside = (x > 0) & (x < 11) & (y > 0) & (y < 9)
    x, y = (np.rint(v[inside]).astype(int) for v in (x, y))
    computed = apply_operation(name, tf.constant(CLIP), magnitude, 0.0).numpy()
    same = computed[:, rows[inside], columns[inside]] == CLIP[:, y, x]
    assert inside.sum() > 60 and same.mean() > 0.97  # halves may be rounded either way


def augmented(config, count):
    """`CLIP` as samples 0, 1, ... would have it."""
    apply = RandAugment(config, seed=5)
    dataset = tf.data.Dataset.range(count).map(lambda n: apply(tf.constant(CLIP), n))
    return np.stack(list(dataset.as_numpy_iterator()))


def test_every_operation_is_drawn_in_both_directions_and_none():
    config = RandAugmentConfig(num_layers=1, magnitude=8.0)
    both_ways = ("Color", "Contrast", "Brightness", "Sharpness", "Rotate")
    both_ways += ("ShearX", "ShearY", "TranslateX", "TranslateY")
    expected = {CLIP.tobytes(): 1 / 16}
    for name in OPERATIONS:
        signs = (1, -1) if name in both_ways else (1,)
        for sign in signs:
            clip = apply_operation(name, tf.constant(CLIP), sign * 8.0, 10.0)
            expected[clip.numpy().tobytes()] = 1 / 16 / len(signs)
    assert len(expected) == 25
    count = 800
    found = collections.Counter(clip.tobytes() for clip in augmented(config, count))
    assert found.keys() == expected.keys()
    for clip, probability in expected.items():
        deviation = (count * probability * (1 - probability)) ** 0.5
        assert abs(found[clip] - count * probability) < 4 * deviation


def test_operations_follow_each_other_with_their_probability():
    for probability, expected in ((0.0, 0.0), (1.0, 0.5), (0.5, 0.375)):
        config = RandAugmentConfig(
            num_layers=2, exclude_ops=only("Invert"), prob_to_apply=probability
        )
        clips = augmented(config, 400)
        is_inverted = (clips == 255 - CLIP).all(axis=(1, 2, 3, 4))
        assert (clips[~is_inverted] == CLIP).all()
        assert abs(is_inverted.mean() - expected) < 0.1  # an odd number of layers


def test_a_clip_is_cut_as_without_augmentation(batches):
    never = rand_augment(prob_to_apply=0.0, exclude_ops=only("Invert"))
    assert_same(batches(2, {"aug_type": never}), batches(2, {}))


# === Mixup and CutMix ===


def test_mixup_by_value(batches):
    mixup = {"mixup_and_cutmix": MixupAndCutmixConfig(mixup_alpha=0.8)}
    shares = []
    for plain, mixed in zip(batches(6, {}), batches(6, mixup), strict=True):
        own, other = plain["clip"].astype(np.float64), plain["clip"][[1, 0, 3, 2]]
        one_hot = np.eye(3)[plain["label"]]
        difference = one_hot - one_hot[[1, 0, 3, 2]]
        for i in np.flatnonzero(difference.any(1)):
            share = mixed["label"][i][plain["label"][i]]
            expected = share * one_hot[i] + (1 - share) * one_hot[[1, 0, 3, 2][i]]
            np.testing.assert_allclose(mixed["label"][i], expected, atol=1e-6)
            pixels = share * own[i] + (1 - share) * other[i]
            np.testing.assert_allclose(mixed["clip"][i], pixels, atol=0.5001)
            shares.append(share)
        np.testing.assert_allclose(mixed["weight"], 1)
        np.testing.assert_array_equal(mixed["video"], plain["video"])
    assert len(set(shares)) == len(shares) > 8  # each sample has its own


def test_cutmix_by_value():
    pair = {
        "clip": tf.constant(RANDOM.integers(0, 256, (2, 2, 14, 18, 3), np.uint8)),
        "label": tf.constant([0, 2]),
        "weight": tf.ones(2),
    }
    mix = Mixing(MixupAndCutmixConfig(cutmix_alpha=1.0), seed=0, num_classes=3)
    own, areas = pair["clip"].numpy(), []
    for number in range(0, 40, 2):
        mixed = mix(tf.constant([number, number + 1], tf.int64), pair)
        for clip, label, i in zip(mixed["clip"], mixed["label"], (0, 1), strict=True):
            is_own = (clip == own[i]).numpy().all(axis=-1)
            is_other = (clip == own[1 - i]).numpy().all(axis=-1)
            assert (is_own ^ is_other).all() and (is_other == is_other[0]).all()
            rows, columns = (is_other[0].any(axis=axis) for axis in (1, 0))
            assert (is_other[0] == np.outer(rows, columns)).all()  # one rectangle
            area = is_other[0].mean()
            np.testing.assert_allclose(label[pair["label"][i]], 1 - area, rtol=1e-6)
            np.testing.assert_allclose(label[pair["label"][1 - i]], area, atol=1e-6)
            areas.append(area)
    assert np.min(areas) < 0.1 and np.max(areas) > 0.5 and len(set(areas)) > 20


def test_labels_of_several_classes_are_mixed(batches, tmp_path, clips):
    for i in range(2):
        clips.write(tmp_path / f"{i}.mp4", 20)
    (tmp_path / "index.txt").write_text("0.mp4 0 2\n1.mp4 1 2\n")
    settings = {
        "input_path": str(tmp_path / "index.txt"),
        "index_format": "mmaction2",
        "is_multilabel": True,
        "mixup_and_cutmix": MixupAndCutmixConfig(mixup_alpha=1.0),
    }
    for batch in batches(3, settings):
        first, second, both = batch["label"].T
        np.testing.assert_allclose(both, 1, atol=1e-6)
        np.testing.assert_allclose(first + second, 1, atol=1e-6)
        assert ((first > 0) & (first < 1)).all()


def test_probabilities_of_mixing(batches):
    never = MixupAndCutmixConfig(mixup_alpha=0.8, cutmix_alpha=1.0, prob=1e-12)
    plain, same = batches(2, {}), batches(2, {"mixup_and_cutmix": never})
    for a, b in zip(plain, same, strict=True):
        np.testing.assert_array_equal(a["clip"], b["clip"])
        np.testing.assert_array_equal(np.eye(3)[a["label"]], b["label"])
    only_cutmix = MixupAndCutmixConfig(mixup_alpha=0.8, cutmix_alpha=1.0, switch_prob=1)
    cutmix = {"mixup_and_cutmix": MixupAndCutmixConfig(cutmix_alpha=1.0)}
    assert_same(batches(2, {"mixup_and_cutmix": only_cutmix}), batches(2, cutmix))


# === Samples by number ===


def test_what_is_drawn_follows_the_seed(batches):
    first = batches(3, ALL_ON)
    assert_same(batches(3, ALL_ON | {"num_parallel_decodes": 1}), first)
    other = batches(3, ALL_ON, seed=4)
    assert (other[0]["clip"] != first[0]["clip"]).any()


@pytest.mark.parametrize("start", [pytest.param(1, marks=pytest.mark.slow), 4])
def test_a_late_start_gives_the_batches_of_an_uninterrupted_run(batches, start):
    whole = batches(6, ALL_ON)
    assert_same(batches(6 - start, ALL_ON, start_batch=start), whole[start:])


@pytest.mark.parametrize(
    ("pipelines", "replicas"),
    [
        pytest.param(1, 2, marks=pytest.mark.slow),
        pytest.param(1, 4, marks=pytest.mark.slow),
        (2, 2),
    ],
)
def test_the_number_of_replicas_changes_nothing(batches, pipelines, replicas):
    whole = batches(2, ALL_ON)
    parts = [
        batches(
            2 * replicas // pipelines,
            ALL_ON,
            input_context=tf.distribute.InputContext(pipelines, pipeline, replicas),
        )
        for pipeline in range(pipelines)
    ]
    per_batch = replicas // pipelines
    joined = [
        [x for part in parts for x in part[i * per_batch : (i + 1) * per_batch]]
        for i in range(2)
    ]
    joined = [{k: np.concatenate([x[k] for x in xs]) for k in xs[0]} for xs in joined]
    assert_same(joined, whole)


def test_pairs_need_an_even_batch_on_each_host(batches):
    with pytest.raises(UserError, match="even. Received: 3 of global_batch_size=3"):
        batches(1, ALL_ON | {"global_batch_size": 3})
    with pytest.raises(UserError, match="even. Received: 3 of global_batch_size=6"):
        batches(
            1,
            ALL_ON | {"global_batch_size": 6},
            input_context=tf.distribute.InputContext(2, 0, 2),
        )


@pytest.mark.parametrize("name", ALL_ON)
def test_test_data_are_not_augmented(data_config, name):
    with pytest.raises(UserError, match=f"`{name}` is for training data only"):
        data_config(is_training=False, **{name: ALL_ON[name]}).check()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            dict(aug_type=AugmentationConfig(type="autoaug")),
            "aug_type.type is 'autoaug'",
        ),
        (dict(aug_type=rand_augment(num_layers=0)), "randaug.num_layers.*Received: 0"),
        (dict(aug_type=rand_augment(magnitude=11.0)), "at most 10. Received: 11.0"),
        (
            dict(aug_type=rand_augment(exclude_ops=["Cutout"])),
            "exclude_ops is 'Cutout'",
        ),
        (dict(mixup_and_cutmix=MixupAndCutmixConfig(mixup_alpha=-1.0)), "mixup_alpha"),
        (dict(mixup_and_cutmix=MixupAndCutmixConfig(prob=2.0)), "at most 1. Rec.*2.0"),
        (
            dict(mixup_and_cutmix=MixupAndCutmixConfig(mixup_alpha=1.0, prob=0.0)),
            "prob` is 0, so no clip would be mixed",
        ),
        (
            dict(mixup_and_cutmix=MixupAndCutmixConfig(prob=0.5)),
            "prob` has no effect while mixup_alpha and .* are 0.*or set prob=1.0",
        ),
    ],
)
def test_wrong_settings_are_named(data_config, settings, message):
    with pytest.raises(UserError, match=message):
        data_config(**settings).check()


@pytest.mark.slow
def test_a_run_is_resumed_bit_for_bit(config, tmp_path):
    augmented = (
        "runtime.deterministic=true",
        "task.train_data.aug_type.type=randaug",
        "task.train_data.mixup_and_cutmix={mixup_alpha: 0.8, cutmix_alpha: 1.0}",
        "task.losses={label_smoothing: 0.1, class_weights: {red: 2.0}}",
    )

    def train(name, steps):
        settings = (*augmented, f"trainer.train_steps={steps}")
        assert run("train", tmp_path / name, *settings, config=config) == 0

    train("whole", 4)
    train("resumed", 2)
    train("resumed", 4)
    whole, resumed = (
        dict(checkpoint_files.read(str(tmp_path / name / "ckpt-4")))
        for name in ("whole", "resumed")
    )
    assert whole.keys() == resumed.keys() and len(whole) > 100
    for key in whole.keys() - {"_CHECKPOINTABLE_OBJECT_GRAPH"}:
        np.testing.assert_array_equal(whole[key], resumed[key], err_msg=key)
