"""JSON files beside shards, whole, missing and damaged."""

import json
import pathlib

import numpy as np
import pytest

from trainers.core.files import FileError
from trainers.video_classification.data import DataError, load_index
from trainers.video_classification.data.tfrecords.sidecars import (
    list_shard,
    sidecar,
    write_checked,
)


def test_shards_from_elsewhere_need_no_json(shards, data_config):
    with_json = load_index(data_config(input_path=str(shards)))
    for shard in shards.glob("*.tfrecord"):
        listed = list_shard(str(shard))
        pathlib.Path(sidecar(str(shard))).unlink()
        assert list_shard(str(shard)) == listed
    without = load_index(data_config(input_path=str(shards / "clips-*.tfrecord")))
    assert without.videos == with_json.videos


DAMAGED = ["", "[]", "{}", '"records"', "\xff", '{"records": 1', "\0" * 64]


@pytest.mark.parametrize("text", DAMAGED)
@pytest.mark.parametrize("name", ["clips-00000-of-00002.json", "index.json"])
def test_a_damaged_json_file_is_replaced_by_the_other_files(
    shards, data_config, name, text, caplog
):
    expected = load_index(data_config(input_path=str(shards)))
    (shards / name).write_text(text, encoding="latin-1")
    assert load_index(data_config(input_path=str(shards))) == expected
    assert name in caplog.text and "instead" in caplog.text


@pytest.mark.parametrize("name", ["clips-00000-of-00002.json", "index.json"])
def test_flipped_bits_in_json_files_change_nothing(shards, data_config, name):
    expected = load_index(data_config(input_path=str(shards)))
    whole = (shards / name).read_bytes()
    for place in np.random.default_rng(0).integers(0, len(whole), 40).tolist():
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        (shards / name).write_bytes(damaged)
        assert load_index(data_config(input_path=str(shards))) == expected


@pytest.mark.parametrize("name", ["clips-00000-of-00002.json", "index.json"])
def test_a_json_file_without_its_checksum_is_not_used(shards, data_config, name):
    # Two flipped bits: one in the name of the checksum, one in what it protects.
    expected = load_index(data_config(input_path=str(shards)))
    text = (shards / name).read_text().replace("checksum", "checksun")
    (shards / name).write_text(text.replace("jump", "bump"))
    assert load_index(data_config(input_path=str(shards))) == expected


def test_damaged_class_names_are_an_error_where_no_file_has_them(shards, data_config):
    for path in shards.glob("*.json"):
        path.write_text("")
    with pytest.raises(FileError, match=r"index\.json: is empty: .*Write it again"):
        load_index(data_config(input_path=str(shards)))


def test_where_class_names_are_missing_is_stated(
    shards, data_config, video_folder, capsys
):
    for path in shards.glob("*.json"):
        path.unlink()
    index = load_index(data_config(input_path=str(shards)))
    assert index.class_names == ("0", "1", "2")
    assert f"warning: {shards}: has no class names" in capsys.readouterr().err
    with pytest.raises(DataError, match="training data name their .*index.json"):
        load_index(data_config(input_path=str(video_folder)), index.class_names)


@pytest.mark.parametrize(
    "records", ["7", "[7]", '[{"name": "v"}]', '[["a", 0, 1]]', '[[-1, "v", [0]]]']
)
def test_a_sidecar_of_other_records_is_not_used(shards, data_config, records, caplog):
    expected = load_index(data_config(input_path=str(shards)))
    beside = shards / "clips-00000-of-00002.json"
    write_checked(str(beside), {"records": json.loads(records)})
    assert load_index(data_config(input_path=str(shards))) == expected
    assert f"{beside}: has no 'records'" in caplog.text


def test_labels_beyond_the_class_names_are_named(shards, data_config):
    write_checked(str(shards / "index.json"), {"class_names": ["dive", "jump"]})
    with pytest.raises(DataError, match=r"tfrecord#\d+: has labels \(2,\).* 2 classes"):
        load_index(data_config(input_path=str(shards)))
