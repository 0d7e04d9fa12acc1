"""Data of servers are kept in memory only if all of it fits, and libraries can be loaded from there."""

import os
from types import SimpleNamespace

import psutil
import pytest

from tests.ground import fits

GIGABYTES = 1 << 30


@pytest.mark.parametrize(
    ("memory", "folder", "workers", "expected"),
    [
        pytest.param(22, 24, 4, True, id="both are large enough"),
        pytest.param(14, 24, 4, False, id="too little memory"),
        pytest.param(14, 24, 3, True, id="fewer workers need less"),
        pytest.param(60, 8, 4, False, id="too small a folder"),
        pytest.param(60, 0.0625, 1, False, id="the folder of a container"),
    ],
)
def test_data_are_kept_in_memory_if_all_of_it_fits(tmp_path, monkeypatch, memory, folder, workers, expected):
    blocks = int(folder * GIGABYTES) // 4096
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=memory * GIGABYTES))
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_flag=0, f_bavail=blocks, f_frsize=4096))

    assert fits(tmp_path, workers) is expected


def test_a_folder_that_nothing_is_run_from_takes_no_data(tmp_path, monkeypatch):
    large = SimpleNamespace(f_flag=os.ST_NOEXEC, f_bavail=1 << 40, f_frsize=4096)
    monkeypatch.setattr(os, "statvfs", lambda _: large)

    assert not fits(tmp_path, 1)


def test_a_machine_without_a_folder_in_memory_uses_its_disk(tmp_path):
    assert not fits(tmp_path / "missing", 1)
