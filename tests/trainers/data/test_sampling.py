import numpy as np
import pytest

from trainers.video_classification.data import sampling


def order(seed, num_videos=50):
    return sampling.VideoOrder(seed, [0] * num_videos)


def test_every_epoch_visits_every_video_once_in_its_own_order():
    videos = order(7, 5)
    epochs = [[videos.video(5 * epoch + i) for i in range(5)] for epoch in range(4)]
    assert all(sorted(epoch) == [0, 1, 2, 3, 4] for epoch in epochs)
    assert len(set(map(tuple, epochs))) > 1


def test_order_and_augmentation_follow_from_the_seed():
    first = order(3).epoch(0)
    np.testing.assert_array_equal(first, order(3).epoch(0))
    assert (first != order(4).epoch(0)).any()
    draws = {
        tuple(sampling.sample_generator(*key).random(2))
        for key in [(3, 0), (3, 1), (4, 0), (3, 0, 1), (3, 0)]
    }
    assert len(draws) == 4


def test_a_negative_seed_is_a_seed_of_its_own():
    orders = [tuple(order(s).epoch(0)) for s in (-3, 3, -4, 4, 0)]
    assert len(set(orders)) == 5
    draws = [sampling.sample_generator(s, 7).random() for s in (-3, 3)]
    assert draws[0] != draws[1]


# Classes of many and of few videos

LONG_TAIL = [0] * 60 + [1] * 25 + [2] * 10 + [3] * 4 + [4]
COUNTS = np.bincount(LONG_TAIL)


@pytest.mark.parametrize("exponent", [1.0, 0.75, 0.5, 0.0])
def test_classes_are_as_frequent_as_the_exponent_says(exponent):
    videos = sampling.VideoOrder(1, LONG_TAIL, exponent)
    expected = COUNTS**exponent / sum(n**exponent for n in COUNTS.tolist())
    classes = np.array(LONG_TAIL)
    total = np.zeros(5)
    for epoch in range(40):
        counts = np.bincount(classes[videos.epoch(epoch)], minlength=5)
        assert counts.sum() == 100
        np.testing.assert_allclose(counts, 100 * expected, atol=1.99)
        total += counts
        np.testing.assert_allclose(total, 100 * (epoch + 1) * expected, atol=1)


def test_the_videos_of_a_class_are_equally_frequent():
    videos = sampling.VideoOrder(1, LONG_TAIL, 0.0)
    visits = np.zeros(100, int)
    for epoch in range(7):
        np.add.at(visits, videos.epoch(epoch), 1)
        for number in range(5):
            own = visits[np.array(LONG_TAIL) == number]
            assert own.max() - own.min() <= 1
    assert visits[99] == 7 * 20 and visits[:60].max() == 3  # 140 of 60 videos


def test_a_balanced_order_follows_from_seed_and_number_alone():
    def drawn(seed, samples):
        videos = sampling.VideoOrder(seed, LONG_TAIL, 0.5)
        return {sample: videos.video(sample) for sample in samples}

    whole = drawn(3, range(500))
    assert whole == drawn(3, reversed(range(500)))
    late = drawn(3, range(250, 500))
    assert late == {sample: whole[sample] for sample in late}
    assert whole != drawn(4, range(500))


def test_replacements_are_of_the_classes_of_the_epoch():
    videos = sampling.VideoOrder(1, LONG_TAIL, 0.0)
    draw = np.random.default_rng(0)
    found = [LONG_TAIL[videos.replacement(7, draw)] for _ in range(2000)]
    np.testing.assert_allclose(np.bincount(found) / 2000, 0.2, atol=0.03)


@pytest.mark.parametrize("exponent", [0.0, 0.3, 1.0])
def test_any_classes_make_whole_epochs(exponent):
    draw = np.random.default_rng(0)
    for _ in range(30):
        classes = draw.geometric(0.2, draw.integers(1, 60))
        videos = sampling.VideoOrder(0, classes, exponent)
        for epoch in (0, 1, 2, 1000):
            assert len(videos.epoch(epoch)) == len(classes)


def test_ten_test_clips_reach_both_ends_and_do_not_wrap():
    starts = sampling.spread_starts(10, 32, 2, 300)
    expected = [0, 26, 52, 79, 105, 131, 157, 184, 210, 236]  # released: 0, 30, ... 270
    np.testing.assert_array_equal(starts, expected)
    last = sampling.clip_frames(starts[-1], 32, 2, 300)
    np.testing.assert_array_equal(last, np.arange(236, 300, 2))


def test_a_short_video_wraps_around():
    np.testing.assert_array_equal(sampling.clip_frames(0, 5, 2, 3), [0, 2, 1, 0, 2])
    np.testing.assert_array_equal(sampling.clip_frames(0, 3, 8, 1), [0, 0, 0])


def test_training_starts_cover_exactly_where_the_clip_fits():
    generator = np.random.default_rng(0)
    starts = {sampling.random_start(generator, 4, 2, 13) for _ in range(300)}
    assert starts == set(range(13 - 8 + 1))
    assert {sampling.random_start(generator, 4, 2, 8) for _ in range(20)} == {0}
    assert {sampling.random_start(generator, 4, 2, 3) for _ in range(20)} == {0}


@pytest.mark.parametrize(
    "num_clips, video_frames, starts",
    [(1, 28, [10]), (3, 28, [0, 10, 20]), (2, 5, [0, 0]), (1, 5, [0])],
)
def test_test_clips_are_spread_from_end_to_end(num_clips, video_frames, starts):
    got = sampling.spread_starts(num_clips, 4, 2, video_frames)
    np.testing.assert_array_equal(got, starts)
