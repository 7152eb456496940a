"""Images of every kind are trained on, evaluated and predicted, or named as broken."""

import json

import numpy as np
import pytest
from PIL import Image

from tests.trainers.detection.coco_files import annotation, coco
from tests.trainers.detection.runs import run

SIZE = 80, 60  # width, height
BROKEN = {"cut.jpg", "huge.png"}


def write_images(folder):
    """Returns the (width, height) of each as it is shown."""
    y, x = np.mgrid[:60, :80]
    plain = Image.fromarray(np.stack([3 * x, 4 * y, x + y], -1).astype(np.uint8))
    deep = Image.fromarray((800 * x).astype(np.uint16))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    plain.save(folder / "plain.png")
    plain.convert("L").save(folder / "grey.png")
    plain.convert("CMYK").save(folder / "cmyk.jpg")
    deep.save(folder / "deep.png")
    plain.save(folder / "turned.jpg", exif=exif)
    plain.crop((0, 0, 1, 1)).save(folder / "dot.png")
    Image.new("1", (8000, 5000)).save(folder / "huge.png")  # 40 megapixels
    plain.save(folder / "cut.jpg", quality=95)
    content = (folder / "cut.jpg").read_bytes()
    (folder / "cut.jpg").write_bytes(content[: len(content) // 2])
    sizes = {"turned.jpg": (60, 80), "dot.png": (1, 1), "huge.png": (8000, 5000)}
    return {x.name: sizes.get(x.name, SIZE) for x in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("unusual")
    sizes = write_images(folder)
    rows = []
    for number, size in enumerate(sizes.values(), 1):
        box = (0, 0, 1, 1) if size == (1, 1) else (10, 5, 30, 40)
        rows.append(annotation(number, number, box))
    content = coco(rows, len(sizes))
    for image, (name, (width, height)) in zip(
        content["images"], sizes.items(), strict=True
    ):
        image |= {"file_name": name, "width": width, "height": height}
    (folder / "annotations.json").write_text(json.dumps(content))
    return folder


@pytest.fixture(scope="module")
def trained(folder, tmp_path_factory, request):
    model_dir = tmp_path_factory.mktemp("trained")
    data = {
        "input_path": folder,
        "annotation_file": "''",
        "max_broken_fraction": 0.5,
        "skip_empty_images": False,
        "global_batch_size": 4,
    }
    overrides = [
        f"task.{name}.{key}={value}"
        for name in ("train_data", "validation_data")
        for key, value in data.items()
    ]
    overrides += ["trainer.train_steps=2"]  # an epoch
    config = request.getfixturevalue("config")
    run("train_and_eval", model_dir, *overrides, config=config)
    return model_dir


@pytest.mark.slow
def test_broken_images_are_named_and_all_others_are_evaluated(trained):
    results = json.loads((trained / "eval_results.json").read_text())
    assert results["step"] == 2 and np.isfinite(results["mask_AP"])
    assert {path.split("/")[-1] for path in results["broken"]} == BROKEN
    reasons = {path.split("/")[-1]: x for path, x in results["broken"].items()}
    assert "limits.pixels=33554432" in reasons["huge.png"]
    assert "cannot be decoded" in reasons["cut.jpg"]


@pytest.mark.slow
def test_broken_images_are_named_and_all_others_are_predicted(
    trained, folder, tmp_path, capsys
):
    drawn = tmp_path / "drawn"
    options = {"as_json": True, "min_score": 0.0, "output_dir": str(drawn)}
    assert run("predict", trained, paths=(str(folder),), **options) == 1
    results = json.loads(capsys.readouterr().out)
    errors = {x["path"].split("/")[-1] for x in results if "error" in x}
    assert errors == BROKEN
    for found in (x for x in results if "error" not in x):
        with Image.open(
            drawn / f"{found['path'].split('/')[-1].split('.')[0]}.jpg"
        ) as x:
            width, height = x.size
        for detected in found["detections"]:
            assert detected["mask"]["size"] == [height, width]
    turned = next(x for x in results if x["path"].endswith("turned.jpg"))
    sizes = {tuple(x["mask"]["size"]) for x in turned["detections"]}
    assert sizes == {(80, 60)}
