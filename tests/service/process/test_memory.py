"""Limits of memory are read where Linux tells them: of the machine, of control groups of both versions, of ulimit."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from service.process.control_group import ControlGroup
from service.process.memory import LARGEST_BUDGET, Memory, default_budget
from tests.service.serving import REPOSITORY

MB = 1 << 20


def write(folder: Path, **files: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(f"{content}\n")


def test_version_2_has_the_least_limit_of_a_group_and_those_above_it(tmp_path: Path) -> None:
    stat = f"anon 5\ninactive_file {30 * MB}\nactive_file 7"
    write(tmp_path / "pod" / "app", memory__max="max", memory__current=50 * MB, memory__stat=stat)
    write(tmp_path / "pod", memory__max=100 * MB, memory__current=90 * MB, memory__stat=stat)
    group = ControlGroup(tmp_path, "0::/pod/app\n")
    assert group.limit == 100 * MB
    assert group.left == (100 - 90 + 30) * MB


def test_version_1_has_another_name_for_everything(tmp_path: Path) -> None:
    stat = f"inactive_file 1\ntotal_inactive_file {4 * MB}"
    files = {"memory__limit_in_bytes": 64 * MB, "memory__usage_in_bytes": 60 * MB, "memory__stat": stat}
    write(tmp_path / "memory" / "docker" / "abc", **files)
    write(tmp_path / "memory", memory__limit_in_bytes=(1 << 63) - 4096, memory__usage_in_bytes=1)
    group = ControlGroup(tmp_path, "4:cpu,cpuacct:/\n3:hugetlb,memory:/docker/abc\n0::/\n")
    assert group.limit == 64 * MB
    assert group.left == 8 * MB


def test_inside_a_container_the_group_lies_at_the_root(tmp_path: Path) -> None:
    write(tmp_path, memory__max=32 * MB, memory__current=8 * MB)
    group = ControlGroup(tmp_path, "0::/the/path/outside\n")
    assert (group.limit, group.left) == (32 * MB, 24 * MB)


@pytest.mark.parametrize("membership", ["", "0::/\n", "nothing\n", "1:name=systemd:/x\n"])
def test_without_a_limit_there_is_none(tmp_path: Path, membership: str) -> None:
    write(tmp_path, memory__max="max", memory__current=1)
    group = ControlGroup(tmp_path, membership)
    assert (group.limit, group.left) == (None, None)


def test_the_machine_has_more_left_than_nothing_and_no_more_than_it_has() -> None:
    memory = Memory()
    assert 0 < memory.left <= memory.limit <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 0 < default_budget(memory) <= LARGEST_BUDGET


def test_a_limit_of_the_process_counts() -> None:
    program = (
        "import resource; resource.setrlimit(resource.RLIMIT_AS, (400 << 20, 400 << 20));"
        "from service.process.memory import Memory, default_budget; m = Memory();"
        "print(m.limit, m.left, default_budget(m))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    limit, left, budget = map(int, done.stdout.split())
    assert limit <= 400 * MB
    assert left < limit
    assert budget == min(LARGEST_BUDGET, limit // 4)
    assert resource.getrlimit(resource.RLIMIT_AS)[0] != 400 * MB


def test_what_is_mapped_and_free_counts_as_left() -> None:
    """Freed blocks too small to be mapped by themselves, between others that stay."""
    program = (
        "import resource; from service.process import allocator; allocator.configure();"
        "from service.process.memory import Memory; m = Memory();"
        "resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30));"
        "a = m.own_left; b = [bytearray(50_000) for _ in range(2_000)]; c = m.own_left;"
        "del b[::2]; d = m.own_left; print(a - c, d - c, m.left <= d)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    used, free, within = done.stdout.split()
    assert int(used) >= 100 * 1_000_000 - 5_000_000
    assert int(free) >= 48 * 1_000_000
    assert within == "True"
