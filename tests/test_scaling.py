"""The model of scaling: its terms by hand, and the limits that it finds."""

import importlib.util
import pathlib
import sys

import pytest

BENCHMARKS = pathlib.Path(__file__).parents[1] / "benchmarks"
CLIP = (50e9, 100e6)  # multiply-adds, bytes


@pytest.fixture
def scaling(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    spec = importlib.util.spec_from_file_location("scaling", BENCHMARKS / "scaling.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def arguments(scaling, monkeypatch):
    def parse(*flags):
        monkeypatch.setattr(sys, "argv", ["scaling.py", *flags])
        return scaling.parse_arguments()

    return parse


def test_the_terms_of_a_step(scaling, arguments):
    args = arguments(
        "--tflops", "100", "--batch", "4", "--gbits", "8", "--devices", "2"
    )
    assert scaling.compute(args, CLIP) == pytest.approx(4 * 6 * 50e9 / 100e12)
    args.latency_us = 0
    assert scaling.reduction(args, CLIP, 1) == 0
    assert scaling.reduction(args, CLIP, 2) == pytest.approx(0.1)  # 100 MB, 1 GB/s
    assert scaling.reduction(args, CLIP, 4) == pytest.approx(0.15)
    args.latency_us = 1000
    assert scaling.reduction(args, CLIP, 4) == pytest.approx(0.156)
    args.cpu_ms, args.cores = (50, 100), 10
    assert scaling.reading(args, "8x8") == pytest.approx(0.04)
    assert scaling.reading(args, "32x2") == pytest.approx(0.08)
    assert scaling.step(args, "32x2", CLIP, 1) == pytest.approx(0.08)  # input
    assert scaling.step(args, "32x2", CLIP, 2) == pytest.approx(0.012 + 0.102)


def test_the_limits(scaling, arguments):
    args = arguments("--tflops", "1", "--batch", "10", "--devices", "1")  # 3 s a step
    args.gbits, args.latency_us = 8, 0
    # 0.2 s (n - 1) / n never take a tenth of a step; with latency they do.
    assert scaling.network_limit(args, CLIP) == "none"
    args.latency_us = 10_000
    assert scaling.network_limit(args, CLIP) == "9 hosts"
    args.storage_gbytes, args.video_mbytes = 0.01, 1  # 3.33 clips/s a host, 10 in all
    assert scaling.storage_limit(args, CLIP) in ("3 hosts", "4 hosts")
    args.storage_gbytes = 0.011
    assert scaling.storage_limit(args, CLIP) == "4 hosts"


@pytest.mark.slow
def test_the_table_counts_the_networks(scaling, arguments, capsys):
    arguments()
    scaling.main()
    table = capsys.readouterr().out
    assert "| multiply-adds of a clip, 10^9 | 36.2 | 41.0 |" in table
    assert "| summed over replicas in a step, MB | 142 | 142 |" in table
    assert len(table.splitlines()) == 11 + 1 + 2 + len(scaling.HOSTS)
