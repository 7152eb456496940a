"""Writes `detection_*.npz`, with torchvision 0.28.0 on PyTorch 2.13.0 (CPU):

    python make_detection_values.py maskrcnn 1 180x240 200x150
    python make_detection_values.py keypointrcnn 2 180x240 200x150
    python make_detection_values.py maskrcnn_v2 3 180x240

Arguments are a name, a seed and the images' sizes. The networks are random; statistics
of batch normalisation and the factors that give heads useful scores are measured, and
kept in the file.
"""

import json
import pathlib
import sys

import numpy as np
import seeded_detection
import torch
from torchvision.models import detection

BUILDERS = {
    "maskrcnn": detection.maskrcnn_resnet50_fpn,
    "maskrcnn_v2": detection.maskrcnn_resnet50_fpn_v2,
    "keypointrcnn": detection.keypointrcnn_resnet50_fpn,
}
SIZES = {"min_size": 256, "max_size": 400}


def norms_of(module):
    return [x for x in module.modules() if isinstance(x, torch.nn.BatchNorm2d)]


def measure_statistics(module, *inputs):
    for norm in norms_of(module):
        norm.train()
    module(*inputs)
    for norm in norms_of(module):
        norm.eval()


class Calibration:
    """Scales a random network's heads to useful scores, and keeps the factors."""

    def __init__(self, model):
        self.model, self.kept = model, {}

    def scale(self, name, factor, shift=None):
        layer = self.model.get_submodule(name.removesuffix("/again"))
        layer.weight.mul_(factor)
        self.kept[f"factor/{name}.weight"] = np.float32(factor)
        if shift is not None:
            layer.bias.add_(shift)
            self.kept[f"shift/{name}.bias"] = shift.float().numpy()

    def run(self, inputs):
        model, heads = self.model, self.model.roi_heads
        for norm in norms_of(model):
            norm.momentum = 1.0
        model.train()
        batch, _ = model.transform(inputs)
        model.backbone(batch.tensors)
        model.eval()
        batch, _ = model.transform(inputs)
        features = model.backbone(batch.tensors)
        logits, deltas = model.rpn.head(list(features.values()))
        self.scale("rpn.head.cls_logits", 2.5 / float(logits[0].std()))
        self.scale("rpn.head.bbox_pred", 0.3 / float(deltas[0].std()))
        boxes, _ = model.rpn(batch, features)
        regions = heads.box_roi_pool(features, boxes, batch.image_sizes)
        measure_statistics(heads.box_head, regions[:400])
        if heads.mask_head is not None:
            few = [own[:50] for own in boxes]
            pooled = heads.mask_roi_pool(features, few, batch.image_sizes)
            measure_statistics(heads.mask_head, pooled)
        vectors = heads.box_head(regions)
        scores, deltas = heads.box_predictor(vectors)
        predictor = "roi_heads.box_predictor"
        self.scale(f"{predictor}.bbox_pred", 1.2 / float(deltas.std(0).mean()))
        self.scale(f"{predictor}.cls_score", 2.2 / float(scores.std(0).mean()))
        scores, _ = heads.box_predictor(vectors)
        self.scale(f"{predictor}.cls_score/again", 1.0, -scores.mean(0))
        return self.kept


def detections(model, inputs):
    """Proposals and detections by name and image; masks as bits."""
    batch, _ = model.transform(inputs)
    boxes, _ = model.rpn(batch, model.backbone(batch.tensors))
    kept = {f"proposals/{i}": own.numpy() for i, own in enumerate(boxes)}
    for i, result in enumerate(model(inputs)):
        kept |= {f"{key}/{i}": x.numpy() for key, x in result.items()}
        if "masks" in result:
            bits = result["masks"].numpy()[:, 0] > 0.5
            kept[f"masks/{i}"] = np.packbits(bits, axis=-1)
    return kept


def draw_target(rng, height, width, is_keypoint):
    corners = rng.uniform(0, 0.6, (5, 2)) * (width, height)
    sides = rng.uniform(0.1, 0.4, (5, 2)) * (width, height)
    ends = np.minimum(corners + sides, (width - 1, height - 1))
    boxes = np.concatenate([corners, ends], 1).astype("float32")
    target = {"boxes": boxes, "labels": rng.integers(1, 2 if is_keypoint else 91, 5)}
    if is_keypoint:
        sides = boxes[:, None, 2:] - boxes[:, None, :2]
        points = boxes[:, None, :2] + rng.uniform(0, 1, (5, 17, 2)) * sides
        visible = rng.integers(0, 3, (5, 17, 1))
        points = np.concatenate([points, visible], 2).astype("float32")
        return target | {"keypoints": points}
    masks = np.zeros((5, height, width), "uint8")
    for mask, (x1, y1, x2, y2) in zip(masks, boxes.astype(int), strict=True):
        mask[y1:y2, x1:x2] = 1
        mask[y1 : (y1 + y2) // 2, x1 : (x1 + x2) // 2] = 0
    return target | {"masks": masks}


def losses(model, inputs, targets):
    """With every anchor and every box sampled: nothing is drawn at random."""
    model.train()
    for norm in norms_of(model):
        norm.eval()
    model.rpn.fg_bg_sampler.batch_size_per_image = 10**7
    model.roi_heads.fg_bg_sampler.batch_size_per_image = 10**7
    targets = [{k: torch.from_numpy(x) for k, x in own.items()} for own in targets]
    return {f"loss/{key}": x.numpy() for key, x in model(inputs, targets).items()}


@torch.no_grad()
def main(name, seed, *sizes):
    seed, shapes = int(seed), [tuple(map(int, size.split("x"))) for size in sizes]
    model = BUILDERS[name](weights=None, weights_backbone=None, **SIZES)
    measured = ("running_mean", "running_var", "num_batches_tracked")
    for key, value in model.state_dict().items():
        if not key.endswith(measured):
            array = seeded_detection.draw(key, tuple(value.shape), seed)
            value.copy_(torch.from_numpy(array))
    images = [seeded_detection.image(*x, seed + i) for i, x in enumerate(shapes)]
    inputs = [torch.from_numpy(x).permute(2, 0, 1).float() / 255 for x in images]
    kept = SIZES | {"seed": seed, "image_sizes": shapes}
    state = {key: list(x.shape) for key, x in model.state_dict().items()}
    kept |= {"shapes": json.dumps(state)} | Calibration(model).run(inputs)
    for key, value in model.state_dict().items():
        if key.endswith(measured[:2]):
            kept[f"state/{key}"] = value.numpy()
    kept |= detections(model, inputs)
    rng = np.random.default_rng(seed)
    targets = [draw_target(rng, *shape, "keypoint" in name) for shape in shapes]
    for i, target in enumerate(targets):
        kept |= {f"target/{i}/{key}": x for key, x in target.items()}
    kept |= losses(model, inputs, targets)
    path = pathlib.Path(__file__).with_name(f"detection_{name}.npz")
    np.savez_compressed(path, **kept)


if __name__ == "__main__":
    main(*sys.argv[1:])
