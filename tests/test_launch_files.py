"""The launch files of examples/ set a TF_CONFIG that names each worker.

Slurm and Kubernetes are replaced by commands that run every worker on this machine.
"""

import json
import os
import pathlib
import subprocess
import sys

import pytest
import yaml

from trainers.core import cluster
from trainers.core.config_definitions import RuntimeConfig

EXAMPLES = pathlib.Path(__file__).parents[1] / "examples"
# Prints what trainers/video.py would get.
PYTHON = """#!/bin/bash
echo "$TF_CONFIG" | tr -d '\\n' && echo " | $*"
"""
SLURM = {
    "python": PYTHON,
    "scontrol": """#!/bin/bash
if [[ $1 == show ]]; then printf 'node1\\nnode2\\nnode3\\n'; else echo "$@"; fi
""",
    "srun": """#!/bin/bash
shift  # --kill-on-bad-exit=0
for i in 0 1 2; do SLURM_PROCID=$i "$@"; done
exit $CODE
""",
}


def run(folder, command, programs, **environment):
    for name, text in programs.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    path = f"{folder}:{os.environ['PATH']}"
    return subprocess.run(
        command,
        env=os.environ | {"PATH": path} | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


def check(line, index, hosts, monkeypatch):
    """Checks what one worker got; returns the arguments."""
    tf_config, _, arguments = line.partition(" | ")
    monkeypatch.setenv("TF_CONFIG", tf_config)
    found = cluster.find(RuntimeConfig())
    assert [worker.address for worker in found.workers] == hosts
    assert found.rank == index
    return arguments


@pytest.mark.parametrize(
    ("code", "is_requeued"),
    [(0, False), (1, False), (75, True), (137, True), (143, True)],
)
def test_slurm_starts_a_worker_on_each_node(tmp_path, monkeypatch, code, is_requeued):
    command = [EXAMPLES / "slurm" / "train.sbatch", "--config", "a b.yaml"]
    done = run(
        tmp_path,
        ["bash", *command],
        SLURM,
        SLURM_JOB_NODELIST="node[1-3]",
        SLURM_JOB_ID="7",
        CODE=str(code),
    )
    assert (done.returncode, done.stderr) == (code, "")
    hosts = [f"node{i}:12345" for i in (1, 2, 3)]
    lines = done.stdout.splitlines()
    for i in range(3):
        arguments = check(lines[i], i, hosts, monkeypatch)
        assert arguments.startswith("trainers/video.py --config a b.yaml --params_")
    assert lines[3:] == ["requeue 7"] * is_requeued


@pytest.mark.parametrize(
    ("code", "seconds", "restarts", "is_requeued"),
    [
        (137, "0", "2", True),
        (137, "0", "3", False),
        (75, "0", "3", False),
        (137, "1000", "3", True),
        (143, "0", "3", True),
    ],
)
def test_slurm_gives_up_jobs_that_are_killed_at_each_start(
    tmp_path, code, seconds, restarts, is_requeued
):
    done = run(
        tmp_path,
        ["bash", EXAMPLES / "slurm" / "train.sbatch"],
        SLURM,
        SLURM_JOB_NODELIST="node[1-3]",
        SLURM_JOB_ID="7",
        SLURM_RESTART_COUNT=restarts,
        SECONDS=seconds,  # of this job, for bash
        CODE=str(code),
    )
    assert done.returncode == code
    assert done.stdout.splitlines()[3:] == ["requeue 7"] * is_requeued


@pytest.mark.parametrize("index", [0, 3])
def test_kubernetes_starts_four_workers(tmp_path, monkeypatch, index):
    text = (EXAMPLES / "kubernetes" / "train.yaml").read_text()
    service, job = yaml.safe_load_all(text)
    pods = job["spec"]["template"]["spec"]
    (container,) = pods["containers"]
    environment = {item["name"]: item["value"] for item in container["env"]}
    done = run(
        tmp_path,
        container["command"],
        {"python": PYTHON},
        JOB_COMPLETION_INDEX=str(index),
        **environment,
    )
    assert (done.returncode, done.stderr) == (0, "")
    name, domain = job["metadata"]["name"], service["metadata"]["name"]
    assert pods["subdomain"] == domain
    count = int(environment["NUM_WORKERS"])
    assert count == job["spec"]["completions"] == job["spec"]["parallelism"]
    hosts = [f"{name}-{i}.{domain}:12345" for i in range(count)]
    arguments = check(done.stdout.strip(), index, hosts, monkeypatch)
    assert "multi_worker_mirrored" in arguments


@pytest.mark.parametrize("codes", [(0, 75), (75, 0), (137, 75), (75, 137)])
def test_two_workers_start_anywhere(tmp_path, monkeypatch, codes):
    """From any directory; the code is the highest of both."""
    script = f"""#!/bin/bash
[[ $1 == -c ]] && exec {sys.executable} "$@"
echo "${{TF_CONFIG//$'\\n'/}} | $*"  # at once: two processes write
[[ $TF_CONFIG == *'"index": 0'* ]] && exit {codes[0]} || exit {codes[1]}
"""
    python = tmp_path / "python"
    command = [EXAMPLES / "two_workers.sh", "--mode", "train"]
    monkeypatch.chdir(tmp_path)
    done = run(tmp_path, command, {"python": script}, PYTHON=str(python))
    assert (done.returncode, done.stderr) == (max(codes), "")
    lines = sorted(done.stdout.splitlines())
    hosts = json.loads(lines[0].partition(" | ")[0])["cluster"]["worker"]
    for i, line in enumerate(lines):
        arguments = check(line, i, hosts, monkeypatch)
        assert arguments.startswith(f"{EXAMPLES.parent}/trainers/video.py --mode train")
