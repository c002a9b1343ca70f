"""A file is replaced whole or not at all, wherever the process ends and whatever the disk refuses."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from model.files import replace_file

OLD, NEW = b"old " * 1000, b"new " * 2000

WRITER = f"""
import os, sys
from pathlib import Path
from model import files

left = int(sys.argv[2])

def end_at_a_line(frame, event, argument):
    global left
    if frame.f_code.co_filename != files.__file__:
        return None
    if event == "line":
        left -= 1
        if left < 0:
            os._exit(9)
    return end_at_a_line

sys.settrace(end_at_a_line)
files.replace_file(Path(sys.argv[1]), {NEW!r})
"""


def test_a_process_that_ends_at_any_line_leaves_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    path, found = tmp_path / "file", []
    for lines in range(100):
        path.write_bytes(OLD)
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        ended = subprocess.run([sys.executable, "-c", WRITER, str(path), str(lines)], check=False, env=environment)
        found.append(path.read_bytes())
        if ended.returncode == 0:
            break
        assert ended.returncode == 9
    assert 8 <= len(found) < 100
    assert set(found) == {OLD, NEW}
    assert found == sorted(found, reverse=True)  # the old one, and from some line on the new one
    assert [one.name for one in tmp_path.iterdir()] == ["file"]


def test_a_full_disk_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(OLD)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(OLD), before[1]))  # Python ignores the signal that comes with it
    try:
        with pytest.raises(OSError, match="File too large"):
            replace_file(path, NEW)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert path.read_bytes() == OLD
    assert [one.name for one in tmp_path.iterdir()] == ["file"]


def test_a_file_that_is_not_there_yet_is_made(tmp_path: Path) -> None:
    replace_file(tmp_path / "file", NEW)
    assert (tmp_path / "file").read_bytes() == NEW
