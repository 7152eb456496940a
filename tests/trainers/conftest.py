"""Disks that are small or read-only: real ones, mounted for a test."""

import shutil
import subprocess

import pytest


@pytest.fixture
def small_disk(tmp_path):
    """Function that mounts an empty disk of some bytes, and gives its folder.

    Skips the test where this process may not mount file systems.
    """
    mounted = []

    def mount(num_bytes):
        folder = tmp_path / f"disk{len(mounted)}"
        folder.mkdir()
        _mount("-t", "tmpfs", "-o", f"size={num_bytes}", "tmpfs", folder)
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture
def make_read_only():
    """Function that makes a disk of `small_disk` read-only."""
    return lambda folder: _mount("-o", "remount,ro", folder)


def _mount(*arguments):
    command = shutil.which("mount")
    if command is None or subprocess.run([command, *arguments]).returncode:
        pytest.skip("this process may not mount a disk")
