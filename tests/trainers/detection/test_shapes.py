"""Generated images: what is annotated is what is drawn."""

import numpy as np
import pytest

from trainers.core import files
from trainers.detection import shapes


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("shapes"))
    shapes.write_images(folder, 30)
    return folder


def test_an_image_depends_on_its_number_alone():
    pixels, found = shapes.make_image(3, seed=1)
    again, same = shapes.make_image(3, seed=1)
    np.testing.assert_array_equal(pixels, again)
    np.testing.assert_array_equal(found[0].outline, same[0].outline)
    assert (shapes.make_image(3, seed=2)[0] != pixels).any()


def test_masks_of_the_annotations_have_the_colour_of_their_shape():
    from pycocotools import mask as masks

    for number in range(10):
        pixels, found = shapes.make_image(number)
        for shape in found:
            rle = masks.frPyObjects([shape.outline.ravel().tolist()], *pixels.shape[:2])
            inside = masks.decode(rle)[..., 0] > 0
            assert np.abs(np.median(pixels[inside], axis=0) - shape.color).max() <= 2
            exact = np.abs(pixels.astype(int) - shape.color).max(-1) <= 2
            assert exact.sum() <= inside.sum() * 1.02


def test_triangles_have_their_corners_as_keypoints(folder):
    keypoints = files.read_json(files.join(folder, "keypoints.json"))
    instances = files.read_json(files.join(folder, "instances.json"))
    assert len(keypoints["annotations"]) > 5
    assert len(instances["annotations"]) > 2 * len(keypoints["annotations"])
    for found in keypoints["annotations"]:
        points = np.reshape(found["keypoints"], (3, 3))
        np.testing.assert_array_equal(points[:, :2].ravel(), found["segmentation"][0])
        assert points[1, 0] < points[2, 0]  # left and right of the base
        assert points[0, 1] < points[1:, 1].min()  # the top


def test_the_class_of_a_square_is_the_colour_of_a_disc_far_away():
    for number in range(10):
        pixels, squares = shapes.make_image(number, "keys")
        color = shapes.KEYS[squares[0].name]
        rows, columns = np.nonzero(np.abs(pixels.astype(int) - color).max(-1) <= 2)
        disc = columns.min(), columns.max()
        assert len(rows) > 1000
        for square in squares:
            left, right = square.box[0], square.box[2]
            assert max(left - disc[1], disc[0] - right) > 100
