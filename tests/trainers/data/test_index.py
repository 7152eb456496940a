import os

import pytest

from trainers.core.classes import (
    describe_changes,
    read_class_file,
    read_trained_classes,
    write_trained_classes,
)
from trainers.core.files import FileError
from trainers.video_classification.data import DataError, load_index
from trainers.video_classification.data.configs import DataConfig


@pytest.fixture
def index_of(tmp_path):
    """Writes an index file and empty videos, and loads it."""

    def load(text, videos=(), name="list.txt", class_names=None, **settings):
        for video in videos:
            path = tmp_path / video
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        path = tmp_path / name
        path.write_text(text)
        data = DataConfig(input_path=str(path), **settings)
        return load_index(data, class_names)

    return load


def listed(index, root):
    return [(os.path.relpath(r.path, root), r.labels) for r in index.videos]


# A folder per class


def test_folder_names_are_the_classes_in_sorted_order(tmp_path):
    for path in ("run/b.mp4", "run/a.AVI", "dive/c.webm", "dive/.d.mp4", ".x/e.mp4"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).touch()
    (tmp_path / "run" / "notes.txt").touch()
    (tmp_path / "README").touch()
    index = load_index(DataConfig(input_path=str(tmp_path)))
    assert index.format == "folder"
    assert index.class_names == ("dive", "run")
    assert listed(index, tmp_path) == [
        ("dive/c.webm", (0,)),
        ("run/a.AVI", (1,)),
        ("run/b.mp4", (1,)),
    ]
    assert [r.name for r in index.videos] == ["dive/c.webm", "run/a.AVI", "run/b.mp4"]
    # a model's class list sets the numbers
    index = load_index(DataConfig(input_path=str(tmp_path)), ["run", "sit", "dive"])
    assert [r.labels for r in index.videos] == [(2,), (0,), (0,)]
    with pytest.raises(DataError, match="unknown class 'run'.*Did you mean 'runs'"):
        load_index(DataConfig(input_path=str(tmp_path)), ["runs", "dive"])


def test_folders_that_are_not_data_sets_are_explained(tmp_path):
    with pytest.raises(DataError, match="no such file or folder"):
        load_index(DataConfig(input_path=str(tmp_path / "none")))
    (tmp_path / "a.mp4").touch()
    with pytest.raises(DataError, match="1 videos but no class folders.*predict"):
        load_index(DataConfig(input_path=str(tmp_path)))
    with pytest.raises(DataError, match="single video.*--mode predict"):
        load_index(DataConfig(input_path=str(tmp_path / "a.mp4")))
    with pytest.raises(DataError, match="no such folder. It is a file.*auto"):
        load_index(
            DataConfig(input_path=str(tmp_path / "a.mp4"), index_format="folder")
        )
    (tmp_path / "train" / "run").mkdir(parents=True)
    with pytest.raises(DataError, match="class 'train' has no videos.*Is .*train the"):
        load_index(DataConfig(input_path=str(tmp_path)))


def test_names_in_any_script_are_read_and_ones_that_are_not_utf8_left_out(tmp_path):
    (tmp_path / "ü ñ").mkdir()
    (tmp_path / "ü ñ" / "日本.mp4").touch()
    (tmp_path / "ü ñ" / os.fsdecode(b"\xfe.mp4")).touch()
    index = load_index(DataConfig(input_path=str(tmp_path)))
    assert [r.name for r in index.videos] == ["ü ñ/日本.mp4"]


# Lists


@pytest.mark.parametrize("separator", [" ", "\t", ",", ", ", "  "])
def test_lists_take_any_separator_and_spaces_in_paths(index_of, tmp_path, separator):
    videos = ["a b/c d.mp4", "e,f.mp4"]
    text = "".join(f"{v}{separator}{n}\n" for v, n in zip(videos, (2, 0), strict=True))
    index = index_of("# a comment\n\n" + text, videos)
    assert index.format == "list"
    assert listed(index, tmp_path) == [(videos[0], (2,)), (videos[1], (0,))]
    assert index.class_names == ("0", "1", "2")


def test_labels_are_names_or_numbers(index_of, tmp_path):
    index = index_of("a.mp4 riding a bike\nb.mp4 archery\n", ["a.mp4", "b.mp4"])
    assert index.class_names == ("archery", "riding a bike")
    assert [r.labels for r in index.videos] == [(1,), (0,)]
    classes = tmp_path / "classes.txt"
    classes.write_text("sit\narchery\n\nriding a bike\n")
    index = index_of("a.mp4 riding a bike\nb.mp4 1\n", class_file=str(classes))
    assert [r.labels for r in index.videos] == [(2,), (1,)]
    assert index.class_names == ("sit", "archery", "riding a bike")


@pytest.mark.parametrize(
    "line, message",
    [
        ("a.mp4 3", r"list.txt:2: label 3 is out of range; .*3 classes.* 0 to 2"),
        ("a.mp4 -1", r"list.txt:2: label -1 is out of range"),
        ("a.mp4 jmup", r"list.txt:2: unknown class 'jmup'.*Did you mean 'jump'"),
        ("a.mp4", r"list.txt:2: has no label"),
        ("a.mp4:1", r"list.txt:2: has no label.*separated by space, tab or comma"),
        (
            "frames/a 25 1",
            r"list.txt:2: 'frames/a 25 1' are lines of different formats",
        ),
    ],
)
def test_a_bad_line_is_named(index_of, line, message):
    with pytest.raises(DataError, match=message):
        index_of(f"a.mp4 run\n{line}\n", ["a.mp4"], class_names=["dive", "jump", "run"])


def test_videos_that_do_not_exist_are_left_out_and_named(index_of, tmp_path, capsys):
    index = index_of("a.mp4 0\nb.mp4 1\nc.mp4 0\n", ["a.mp4", "c.mp4"])
    assert [name for name, _ in listed(index, tmp_path)] == ["a.mp4", "c.mp4"]
    assert index.missing == (str(tmp_path / "b.mp4"),)
    warning = capsys.readouterr().err
    assert warning.startswith("warning: ") and "1 of the 3 videos listed do" in warning
    assert warning.endswith(f"are left out: {tmp_path / 'b.mp4'}\n")
    with pytest.raises(DataError, match="none of the 1 videos listed exists"):
        index_of("d.mp4 0\n")


def test_video_root_is_where_paths_start(index_of, tmp_path):
    index = index_of("a.mp4 0\n", ["v/a.mp4"], video_root=str(tmp_path / "v"))
    assert listed(index, tmp_path) == [("v/a.mp4", (0,))]
    index = index_of(f"{tmp_path}/v/a.mp4 0\n", video_root="/elsewhere")
    assert listed(index, tmp_path) == [("v/a.mp4", (0,))]


def test_several_labels_need_is_multilabel(index_of):
    text = "a.mp4 0 2\nb.mp4 1\n"
    index = index_of(
        text, ["a.mp4", "b.mp4"], index_format="mmaction2", is_multilabel=True
    )
    assert [r.labels for r in index.videos] == [(0, 2), (1,)]
    with pytest.raises(DataError, match="list.txt:1: has 2 labels.*is_multilabel"):
        index_of(text, index_format="mmaction2")


@pytest.mark.parametrize("line", ["b.mp4 0 2", "b.mp4,0,2", "b.mp4 25 2", "b 0\t2 1"])
@pytest.mark.parametrize("index_format", ["auto", "list"])
def test_several_numbers_are_not_one_class(index_of, line, index_format):
    message = "list.txt:2: . numbers follow.*is_multilabel: true.*PySlowFast"
    if line.startswith("b "):  # without a suffix it is taken for a folder of frames
        message = "list.txt:2: has several numbers after a folder"
        if index_format == "auto":
            message = r"list.txt:2: .b 0.t2 1. are lines of different formats"
    with pytest.raises(DataError, match=message):
        index_of(f"a.mp4 1\n{line}\n", ["a.mp4"], index_format=index_format)


def test_names_may_hold_numbers(index_of):
    index = index_of("a.mp4 run 100 m\nb.mp4 100 m\n", ["a.mp4", "b.mp4"])
    assert index.class_names == ("100 m", "run 100 m")


def test_unreadable_files_are_explained(index_of, tmp_path):
    with pytest.raises(DataError, match="is empty"):
        index_of("\n\n")
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00a")
    with pytest.raises(FileError, match="not a text file"):
        load_index(DataConfig(input_path=str(tmp_path / "binary.txt")))
    with pytest.raises(DataError, match="Unknown `index_format`.*'foldr'"):
        index_of("a.mp4 0\n", index_format="foldr")
    with pytest.raises(DataError, match="`input_path`"):
        load_index(DataConfig())


def test_class_files_are_checked(index_of, tmp_path):
    classes = tmp_path / "classes.txt"
    for text, message in [("", "no class names"), ("a\nb\na\n", "'a' is listed twice")]:
        classes.write_text(text)
        with pytest.raises(DataError, match=message):
            index_of("x.mp4 0\n", ["x.mp4"], class_file=str(classes))
    with pytest.raises(FileError, match="cannot be read"):
        index_of("x.mp4 0\n", class_file=str(tmp_path / "none.txt"))


# Kinetics

KINETICS = """label,youtube_id,time_start,time_end,split
"riding a bike",abcdefghijk,3,13,train
archery,-bcdefghijk,120,130,train
archery,Cbcdefghijk,0,10,train
archery,Dbcdefghijk,0,10,validate
"""


def test_kinetics_finds_videos_by_class_or_flat(index_of, tmp_path):
    videos = [
        "riding a bike/abcdefghijk_000003_000013.mp4",
        "-bcdefghijk_000120_000130.mkv",
        "Cbcdefghijk.mp4",
    ]
    index = index_of(KINETICS, videos, "train.csv", split="train")
    assert index.format == "kinetics"
    assert index.class_names == ("archery", "riding a bike")
    assert listed(index, tmp_path) == [
        (videos[0], (1,)),
        (videos[1], (0,)),
        (videos[2], (0,)),
    ]
    assert len(index_of(KINETICS, name="train.csv").missing) == 1
    with pytest.raises(DataError, match="no row whose split is 'test'"):
        index_of(KINETICS, name="train.csv", split="test")


def test_a_kinetics_file_without_labels_is_explained(index_of):
    with pytest.raises(DataError, match="test.csv:1: has no column 'label'"):
        index_of("youtube_id,time_start,time_end\nabc,0,10\n", name="test.csv")


# UCF101


def test_ucf101_takes_its_classes_from_class_ind(index_of, tmp_path):
    (tmp_path / "classInd.txt").write_text("1 Sit\n2 Archery\n3 Run\n")
    videos = ["Run/v_Run_g01_c01.avi", "Archery/v_Archery_g01_c01.avi"]
    train = f"{videos[0]} 3\n{videos[1]} 2\n"
    index = index_of(train, videos, "trainlist01.txt")
    assert index.format == "ucf101"
    assert index.class_names == ("Sit", "Archery", "Run")
    assert listed(index, tmp_path) == [(videos[0], (2,)), (videos[1], (1,))]
    test = index_of("\n".join(videos), name="testlist01.txt")
    assert listed(test, tmp_path) == listed(index, tmp_path)
    with pytest.raises(DataError, match="trainlist01.txt:1: Run is not class 1"):
        index_of(f"{videos[0]} 1\n", name="trainlist01.txt")
    with pytest.raises(DataError, match="unknown class 'Ran'.*Did you mean 'Run'"):
        index_of("Ran/v.avi 3\n", name="trainlist01.txt")


# Charades

CHARADES = """id,subject,scene,actions,length
46GP8,HR43,"Kitchen, big",c092 11.90 21.20;c147 0.00 12.60;c092 1.0 2.0,24.83
N11GT,0KZ7,Stairs,,18.33
"""


def test_charades_videos_have_several_labels_or_none(index_of, tmp_path):
    videos = ["46GP8.mp4", "N11GT.mp4"]
    index = index_of(CHARADES, videos, "train.csv", is_multilabel=True)
    assert index.format == "charades"
    assert len(index.class_names) == 157 and index.class_names[92] == "c092"
    assert listed(index, tmp_path) == [(videos[0], (92, 147)), (videos[1], ())]
    names = [f"c{i:03d} Action {i}" for i in range(157)]
    index = index_of(CHARADES, name="a.csv", is_multilabel=True, class_names=names)
    assert index.videos[0].labels == (92, 147)
    with pytest.raises(DataError, match="is_multilabel: true"):
        index_of(CHARADES, name="train.csv")


# Labels


def test_counts_in_a_class_file_are_removed_except_in_our_own(tmp_path):
    path = tmp_path / "classes.txt"
    path.write_text("1 apple\n2 pear\n")
    assert read_class_file(str(path)) == ("apple", "pear")
    assert read_class_file(str(path), counted=False) == ("1 apple", "2 pear")


@pytest.mark.parametrize("label", ["--1", "-", "1-", "²"])
def test_a_label_that_is_not_a_number_is_an_unknown_class(index_of, label):
    with pytest.raises(DataError, match=f"list.txt:2: unknown class '{label}'"):
        index_of(f"a.mp4 run\nb.mp4 {label}\n", ["a.mp4"], class_names=["run", "sit"])


@pytest.mark.parametrize(
    ("old", "new", "described"),
    [
        (["run", "swim"], ["jump", "run", "sit"], "added: jump, sit; removed: swim"),
        (["run"], ["run", "sit"], "added: sit"),
        (["run", "sit"], ["sit", "run"], "the same names in another order"),
        (
            [],
            [f"c{i}" for i in range(12)],
            "added: c0, c1, c2, c3, c4, c5, c6, c7, c8, c9 and 2 more",
        ),
    ],
)
def test_changes_of_the_classes_are_named(old, new, described):
    assert describe_changes(old, new) == described


def test_classes_of_a_training_are_compared_with_their_digest(tmp_path):
    path = tmp_path / "classes.txt"
    write_trained_classes(str(tmp_path), ["açaí", "1 run"])
    assert read_trained_classes(str(path)) == ("açaí", "1 run")
    path.write_text("1 run\naçaí\n")
    with pytest.raises(DataError, match="classes.txt: was changed after the training"):
        read_trained_classes(str(path))
    (tmp_path / "classes.sha256").unlink()  # as in older model directories
    assert read_trained_classes(str(path)) == ("1 run", "açaí")
