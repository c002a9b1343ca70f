"""The cores of a process: its affinity mask and the quotas of its control groups, as Linux writes them."""

import os
from pathlib import Path

import pytest

from model.cores import available_cores

CORES = 6


@pytest.fixture(autouse=True)
def _six_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(CORES)), raising=False)


def group(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


def cores(root: Path, membership: str) -> int:
    (root / "membership").write_text(membership)
    return available_cores(root, root / "membership")


@pytest.mark.parametrize(
    ("said", "expected"),
    [("max 100000", 6), ("150000 100000", 2), ("200000 100000", 2), ("25000 100000", 1), ("900000 100000", 6), ("", 6)],
)
def test_a_quota_of_version_2_counts(tmp_path: Path, said: str, expected: int) -> None:
    group(tmp_path / "pod" / "app", cpu__max=f"{said}\n")
    assert cores(tmp_path, "0::/pod/app\n") == expected


def test_the_least_quota_of_all_groups_above_counts(tmp_path: Path) -> None:
    group(tmp_path / "pod", cpu__max="300000 100000\n")
    group(tmp_path / "pod" / "app", cpu__max="max 100000\n")
    assert cores(tmp_path, "0::/pod/app\n") == 3


@pytest.mark.parametrize(("quota", "expected"), [("-1", 6), ("150000", 2), ("50000", 1)])
def test_a_quota_of_version_1_counts(tmp_path: Path, quota: str, expected: int) -> None:
    group(tmp_path / "cpu" / "docker" / "abc", cpu__cfs_quota_us=f"{quota}\n", cpu__cfs_period_us="100000\n")
    assert cores(tmp_path, "4:cpu,cpuacct:/docker/abc\n3:memory:/docker/abc\n0::/\n") == expected


def test_the_group_is_mounted_at_the_root_inside_a_container(tmp_path: Path) -> None:
    group(tmp_path, cpu__max="150000 100000\n")
    assert cores(tmp_path, "0::/the/path/outside\n") == 2


def test_without_control_groups_the_affinity_mask_counts(tmp_path: Path) -> None:
    assert available_cores(tmp_path, tmp_path / "none") == CORES
    assert cores(tmp_path, "nonsense\n::\n") == CORES


def test_this_process_has_at_least_one_and_no_more_than_its_mask_says() -> None:
    assert 1 <= available_cores() <= len(os.sched_getaffinity(0))
