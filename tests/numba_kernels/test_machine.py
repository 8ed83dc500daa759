"""The caches of a machine, as Linux describes them."""

import os

import pytest

from numba_kernels import machine


def described(folder, **caches):
    for index, (size, level, kind, cores) in enumerate(caches.values()):
        own = folder / f"index{index}"
        own.mkdir(parents=True)
        for name, value in (("size", size), ("level", level), ("type", kind), ("shared_cpu_list", cores)):
            (own / name).write_text(f"{value}\n")
    return folder


LARGE = dict(
    data=("48K", 1, "Data", "0"), code=("32K", 1, "Instruction", "0"), second=("2048K", 2, "Unified", "0"),
    third=("300M", 3, "Unified", "0-15"),
)  # fmt: skip


def test_sizes_are_read(tmp_path):
    assert machine.caches(described(tmp_path, **LARGE)) == {"L1": 48 << 10, "L2": 2 << 20, "L3": 300 << 20}


@pytest.mark.parametrize("cores, sharing, mine", [("0-15", 16, 2), ("0-3,8-11", 8, 8), ("0,1", 2, 16)])
def test_the_last_cache_is_counted_for_the_cores_of_this_process(tmp_path, monkeypatch, cores, sharing, mine):
    monkeypatch.setattr(os, "sched_getaffinity", lambda who: set(range(mine)), raising=False)
    folder = described(tmp_path, **LARGE | {"third": ("300M", 3, "Unified", cores)})
    assert machine.last_level(folder) == (300 << 20) * min(mine, sharing) // sharing


@pytest.mark.parametrize("text", ["", "many", "7-0-"])
def test_what_cannot_be_read_is_as_usual(tmp_path, text):
    folder = described(tmp_path, **LARGE)
    (folder / "index3" / "shared_cpu_list").write_text(text)
    (folder / "index2" / "size").write_text(text)
    assert machine.last_level(folder) == 300 << 20 and machine.caches(folder)["L2"] == machine.USUAL["L2"]
    assert machine.last_level(tmp_path / "nowhere") == machine.USUAL["L3"]
