"""Writes test_views.npz: the frames and crops of other projects' test pipelines.

Run beside checkouts of the projects; they supply numbers only, no code:

    python tests/parity/make_test_view_values.py SLOWFAST MMACTION2 MMCV VNN

of facebookresearch/SlowFast (287ec00), open-mmlab/mmaction2 (4d6c934), open-mmlab/mmcv
(a8073c7) and facebookresearch/video-nonlocal-net (c253ed5).

Only their sampling functions are run, taken out of their files, so that neither
decoders nor Caffe2 are needed: a video is made of its frame numbers, an image of the
numbers of its pixels. video-nonlocal-net's C++ is compiled with g++.

- PySlowFast: `decoder.decode` of a video that is decoded whole, of 30 frames a second,
  its TARGET_FPS, and of other rates; `utils.spatial_sampling`.
- mmaction2: `SampleFrames(test_mode=True)`, `Resize(scale=(-1, side))`, `ThreeCrop` or
  `CenterCrop`; the size by `rescale_size` of mmcv.
- video-nonlocal-net: `DecodeClipFromVideoFileFlex`, `ScaleTransform`,
  `ClipTransformFlex`.

Arrays `PROJECT/frames/CLIP/COUNT`: `(lengths, clips, frames)`, of COUNT clips;
`pyslowfast/rates/CLIP/RATE`: 10 clips of videos of RATE frames a second.
`PROJECT/crops/SIDE/CROP/COUNT`: `(sizes, crops, 4)`: scaled height, scaled width, top
and left; -1 where the project fails.
"""

import ast
import pathlib
import random
import re
import subprocess
import sys
import tempfile
import types

import numpy as np
import torch

LENGTHS = (
    *(1, 2, 3, 5, 7, 8, 9, 13, 16, 20, 24, 29, 30, 31, 32, 33, 40, 47, 50, 56, 57),
    *(58, 61, 62, 63, 64, 65, 66, 72, 73, 75, 80, 90, 100, 101, 120, 127, 128, 129),
    *(150, 151, 180, 199, 240, 250, 299, 300, 301, 437, 1000),
)
CLIPS = ("8x8", "32x2", "16x4", "4x16")
COUNTS = (10, 1)
RATES = (15.0, 25.0, 30000 / 1001, 60.0)
SIZES = (  # (height, width) of the videos
    *((256, 340), (240, 320), (320, 240), (360, 640), (640, 360), (720, 1280)),
    *((1280, 720), (1080, 1920), (256, 256), (480, 480), (256, 257), (257, 256)),
    *((256, 455), (455, 256), (144, 176), (176, 144), (272, 480), (338, 450)),
    *((408, 720), (350, 263), (213, 320), (1024, 577)),
)
CROPS = ((256, 256, 3), (224, 224, 3), (256, 224, 1), (256, 256, 1))


def definitions(path, names, **globals_):
    """Functions and classes of a file, by name, run with `globals_` alone."""
    tree = ast.parse(pathlib.Path(path).read_text())
    tree.body = [node for node in tree.body if getattr(node, "name", None) in names]
    for node in tree.body:
        node.decorator_list = []
    future = ast.parse("from __future__ import annotations")
    tree.body[:0] = future.body
    exec(compile(tree, str(path), "exec"), globals_)
    return types.SimpleNamespace(**{name: globals_[name] for name in names})


def pyslowfast(checkout):
    import math

    folder = checkout / "slowfast/datasets"
    transform = definitions(
        folder / "transform.py",
        ("random_short_side_scale_jitter", "uniform_crop"),
        np=np,
        math=math,
        torch=torch,
    )
    utils = definitions(folder / "utils.py", ("spatial_sampling",), transform=transform)
    names = ("temporal_sampling", "get_start_end_idx", "get_multiple_start_end_idx")
    decoder = definitions(
        folder / "decoder.py",
        (*names, "decode"),
        np=np,
        math=math,
        torch=torch,
        random=random,
        transform=transform,
        torchvision_decode=lambda video, *_, **__: ([video[1]], video[0], True, None),
    )

    def frames(length, size, stride, count, rate=30.0):
        video = rate, torch.arange(length).reshape(-1, 1, 1, 1)
        clips = [
            decoder.decode(video, [stride], [size], i, count, backend="torchvision")
            for i in range(count)
        ]
        return [clip[0][0].flatten().tolist() for clip in clips]

    def crops(height, width, side, crop, count):
        # Its test data scale to the crop, or to 256 for a single crop.
        resized = transform.random_short_side_scale_jitter(
            torch.zeros(1, 1, height, width), side, side
        )[0].shape[2:]
        pixels = torch.arange(resized[0] * resized[1]).reshape(1, 1, *resized)
        for position in range(3) if count == 3 else [1]:
            cut = utils.spatial_sampling(pixels, position, side, side, crop)
            yield (*resized, *divmod(int(cut[0, 0, 0, 0]), resized[1]))

    return frames, crops


def mmaction2(checkout, mmcv_checkout):
    geometric = definitions(
        mmcv_checkout / "mmcv/image/geometric.py", ("_scale_size", "rescale_size")
    )
    folder = checkout / "mmaction/datasets/transforms"
    loading = definitions(
        folder / "loading.py", ("SampleFrames",), BaseTransform=object, np=np
    )
    mmengine = types.SimpleNamespace(is_tuple_of=lambda x, kind: isinstance(x, tuple))
    processing = definitions(
        folder / "processing.py",
        ("Resize", "ThreeCrop", "CenterCrop", "_init_lazy_if_proper"),
        BaseTransform=object,
        RandomCrop=object,
        _pair=lambda value: (value, value),
        mmengine=mmengine,
        mmcv=types.SimpleNamespace(rescale_size=geometric.rescale_size),
        np=np,
    )

    def frames(length, size, stride, count):
        sample = loading.SampleFrames(size, stride, count, test_mode=True)
        results = sample.transform({"total_frames": length, "start_index": 0})
        return results["frame_inds"].reshape(count, size)

    def crops(height, width, side, crop, count):
        results = {"img_shape": (height, width)}
        processing.Resize(scale=(-1, side)).transform(results)
        resized = results["img_shape"]
        cut = processing.ThreeCrop if count == 3 else processing.CenterCrop
        cut = cut(crop)
        cut._crop_imgs = lambda images, box: images
        results["imgs"] = [np.zeros(resized)]
        boxes = np.atleast_2d(cut.transform(results)["crop_bbox"])
        return [(*resized, top, left) for left, top, *_ in boxes]

    return frames, crops


# What the three functions call, reduced to numbers: a "decoded frame" is its number.
HARNESS = r"""
#include <cassert>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>
#include <string>
#include <vector>
#define MAX_DECODING_FRAMES 10000
#define CAFFE_ENFORCE(...)
#define CAFFE_ENFORCE_EQ(...)
#define CAFFE_ENFORCE_LT(...)
#define CV_8UC3 0
typedef unsigned char uchar;
static int video_frames;
struct Params { int outputHeight_, outputWidth_, maximumOutputFrames_; };
struct DecodedFrame { int height_ = 1, width_ = 1; std::unique_ptr<int> data_; };
struct CustomVideoDecoder {
  void decodeFile(std::string, Params,
                  std::vector<std::unique_ptr<DecodedFrame>>& frames) {
    for (int i = 0; i < video_frames; i++) {
      frames.emplace_back(new DecodedFrame);
      frames.back()->data_.reset(new int(i));
    }
  }
};
void ImageDataToBuffer(unsigned char* data, int, int, float* buffer, int) {
  *buffer = *(int*)data;
}
namespace cv {
struct Size { Size(int, int) {} };
struct Vec3b { uchar v[3]; uchar& operator[](int i) { return v[i]; } };
struct Mat {
  Vec3b pixel;
  Mat(Size, int) {}
  template <class T> T& at(int, int) { return pixel; }
  void release() {}
};
void resize(Mat&, Mat&, Size) {}
}
void ImageChannelToBuffer(const cv::Mat*, float*, int) {}
//FUNCTIONS
int main(int, char** argv) {
  std::mt19937 random;
  std::bernoulli_distribution half(0.5);
  int a[6];
  for (int i = 0; i < 6; i++) a[i] = atoi(argv[2 + i]);
  if (argv[1][0] == 'f') {  // length, frames, stride, clip, clips
    video_frames = a[0];
    int height, width;
    float* buffer;
    DecodeClipFromVideoFileFlex("", a[3], a[1], height, width, a[2], buffer, &random,
                                a[4]);
    for (int i = 0; i < a[1]; i++) printf("%d ", (int)buffer[i]);
  } else {  // height, width, side, crop, position
    int height, width;
    float* scaled;
    std::vector<float> image(3 * a[0] * a[1]);
    ScaleTransform(image.data(), 3, 1, a[0], a[1], a[2], a[2], scaled, &random, height,
                   width);
    std::vector<float> pixels(3 * height * width), cut(3 * a[3] * a[3]);
    for (int i = 0; i < height * width; i++) pixels[i] = i;
    ClipTransformFlex(pixels.data(), 3, 1, height, width, a[3], a[3], false, 0, 1,
                      cut.data(), &random, &half, true, false, a[4]);
    int first = (int)cut[0];
    printf("%d %d %d %d", height, width, first / width, first % width);
  }
}
"""


def video_nonlocal_net(checkout, scratch):
    folder = checkout / "caffe2_customized_ops/video"
    text = (folder / "customized_video_io.cc").read_text()
    names = "DecodeClipFromVideoFileFlex", "ScaleTransform", "ClipTransformFlex"
    functions = "\n".join(_function(text, name) for name in names)
    code = scratch / "sampling.cc"
    code.write_text(HARNESS.replace("//FUNCTIONS", functions))
    program = scratch / "sampling"
    subprocess.run(["g++", "-O1", "-o", program, code], check=True)

    def call(*args):
        args = [str(a) for a in args] + ["0"]
        done = subprocess.run([program, *args], capture_output=True)
        return [int(number) for number in done.stdout.split()]

    def frames(length, size, stride, count):
        if length == 1:  # refused ("video cannot be empty")
            return np.zeros((count, size), int)
        return [call("f", length, size, stride, clip, count) for clip in range(count)]

    def crops(height, width, side, crop, count):
        for position in range(3) if count == 3 else [-1]:
            # A scaled side can be a pixel too small for the crop, by rounding in
            # float32: that fails an assertion.
            yield call("c", height, width, side, crop, position) or [-1] * 4

    return frames, crops


def _function(text, name):
    """The definition of a C++ function, up to its closing brace."""
    start = re.search(rf"^(bool|void) {name}\(", text, re.MULTILINE).start()
    end, depth = text.index("{", start), 0
    while True:
        depth += {"{": 1, "}": -1}.get(text[end], 0)
        end += 1
        if depth == 0:
            return text[start:end]


def main():
    slowfast, mmaction, mmcv, vnn = map(pathlib.Path, sys.argv[1:])
    arrays = {"lengths": LENGTHS, "sizes": SIZES}
    with tempfile.TemporaryDirectory() as scratch:
        projects = {
            "pyslowfast": pyslowfast(slowfast),
            "mmaction2": mmaction2(mmaction, mmcv),
            "video_nonlocal_net": video_nonlocal_net(vnn, pathlib.Path(scratch)),
        }
        for name, (frames, crops) in projects.items():
            for clip in CLIPS:
                size, stride = map(int, clip.split("x"))
                for count in COUNTS:
                    rows = [frames(n, size, stride, count) for n in LENGTHS]
                    arrays[f"{name}/frames/{clip}/{count}"] = np.array(rows, np.int16)
                for rate in RATES if name == "pyslowfast" else ():
                    rows = [frames(n, size, stride, 10, rate) for n in LENGTHS]
                    arrays[f"{name}/rates/{clip}/{rate}"] = np.array(rows, np.int16)
            for side, crop, count in CROPS:
                rows = [list(crops(*hw, side, crop, count)) for hw in SIZES]
                arrays[f"{name}/crops/{side}/{crop}/{count}"] = np.array(rows, np.int16)
    target = pathlib.Path(__file__).with_name("test_views.npz")
    np.savez_compressed(target, **arrays)
    print(f"{target}: {target.stat().st_size / 1e3:.0f} kB, {len(arrays)} arrays")


if __name__ == "__main__":
    main()
