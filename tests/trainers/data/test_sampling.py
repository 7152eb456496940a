import numpy as np
import pytest

from trainers.video_classification.data import sampling


def test_every_epoch_visits_every_video_once_in_its_own_order():
    epochs = [
        [sampling.sample_video(7, 5 * epoch + i, 5) for i in range(5)]
        for epoch in range(4)
    ]
    assert all(sorted(epoch) == [0, 1, 2, 3, 4] for epoch in epochs)
    assert len(set(map(tuple, epochs))) > 1


def test_order_and_augmentation_follow_from_the_seed():
    order = sampling.epoch_order(3, 0, 50)
    np.testing.assert_array_equal(order, sampling.epoch_order(3, 0, 50))
    assert (order != sampling.epoch_order(4, 0, 50)).any()
    draws = {
        tuple(sampling.sample_generator(*key).random(2))
        for key in [(3, 0), (3, 1), (4, 0), (3, 0, 1), (3, 0)]
    }
    assert len(draws) == 4


def test_a_negative_seed_is_a_seed_of_its_own():
    orders = [tuple(sampling.epoch_order(s, 0, 50)) for s in (-3, 3, -4, 4, 0)]
    assert len(set(orders)) == 5
    draws = [sampling.sample_generator(s, 7).random() for s in (-3, 3)]
    assert draws[0] != draws[1]


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
