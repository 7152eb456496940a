"""Pictures of detections."""

import numpy as np
import pytest

from trainers.detection.drawing import draw_detections

NAMES = ("background", "cat", "Straße")


@pytest.fixture
def image():
    return np.full((120, 160, 3), (10, 120, 40), np.uint8)


def found(**more):
    return {
        "boxes": np.array([[20, 30, 60, 90], [90, 20.5, 150, 100]], np.float32),
        "labels": np.array([1, 2]),
        "scores": np.array([0.9, 0.4], np.float32),
        **more,
    }


def changed(image, picture):
    assert picture.shape == image.shape and picture.dtype == np.uint8
    return (picture != image).any(-1)


def test_boxes_are_drawn_where_they_are(image):
    where = changed(image, draw_detections(image, found(), NAMES))
    assert where[31:89, 20].all() and where[90, 21:59].all()
    assert not where[35:85, 25:55].any()
    assert not where[:, 95:].any()  # its score is too low
    both = changed(image, draw_detections(image, found(), NAMES, min_score=0.3))
    assert both[25:95, 90].all()


def test_masks_are_drawn_over_the_image(image):
    masks = np.zeros((2, 120, 160), bool)
    masks[0, 50:80, 30:50] = True
    picture = draw_detections(image, found(masks=masks), NAMES)
    where = changed(image, picture)
    assert where[50:80, 30:50].all() and not where[40:48, 30:50].any()
    # Half of the image is seen through.
    assert len(np.unique(picture[55:75, 35:45].reshape(-1, 3), axis=0)) == 1


def test_keypoints_are_red_and_joined_by_lines(image):
    points = np.zeros((2, 3, 3))
    points[0] = [[30, 40, 1], [50, 40, 1], [40, 80, 0]]
    shown = found(keypoints=points)
    picture = draw_detections(image, shown, NAMES, [(0, 1), (1, 2)])
    np.testing.assert_array_equal(picture[40, 30], (255, 0, 0))
    np.testing.assert_array_equal(picture[40, 40], (255, 255, 255))
    assert not changed(image, picture)[60:85, 30:55].any()  # one is not visible
    alone = draw_detections(image, shown, NAMES)
    assert not changed(image, alone)[40, 36:44].any()


def test_an_image_without_objects_is_unchanged(image):
    nothing = {key: x[:0] for key, x in found().items()}
    np.testing.assert_array_equal(draw_detections(image, nothing, NAMES), image)
    only_weak = {key: x[1:] for key, x in found().items()}
    picture = draw_detections(image, only_weak, NAMES)
    np.testing.assert_array_equal(picture, image)
    assert picture is not image


def test_boxes_at_the_edge_and_one_pixel_are_drawn(image):
    edges = found(boxes=np.array([[-5, -5, 200, 200], [3, 3, 3.2, 3.1]], np.float32))
    draw_detections(image, edges, NAMES, min_score=0)
    one = np.zeros((1, 1, 3), np.uint8)
    assert draw_detections(one, edges, NAMES, min_score=0).shape == (1, 1, 3)
