"""Files under a checkpoint's names that are not what they seem: links, pipes, devices, files that change meanwhile."""

import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from model.checkpoint import CARD, CONFIG, TOKENIZER, WEIGHTS, load, save
from model.errors import CheckpointError
from model.strict_json import parse_json
from tests.model.small import small_checkpoint

NAMES = (CONFIG, WEIGHTS, TOKENIZER, CARD)


@pytest.fixture
def folder(checkpoint_folder: Path, tmp_path: Path) -> Path:
    """A copy of the small checkpoint to do damage to."""
    return Path(shutil.copytree(checkpoint_folder, tmp_path / "copy"))


def refusal(folder: Path) -> str:
    """What `load` says; one that waits for ever is a failure and not a test that never ends."""
    said: list[str] = []

    def attempt() -> None:
        try:
            load(folder)
        except CheckpointError as error:
            said.append(str(error))

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(60)
    assert said, "the folder was loaded, or another error was raised, or the reader waits still"
    return said[0]


@pytest.mark.parametrize("name", NAMES)
def test_a_pipe_or_socket_in_a_file_s_place_is_refused_without_waiting(name: str, folder: Path) -> None:
    (folder / name).unlink()
    os.mkfifo(folder / name)
    assert f"{name} is a named pipe, not a file; put the checkpoint's own {name} there." in refusal(folder)
    (folder / name).unlink()
    with socket.socket(socket.AF_UNIX) as listener:
        here = os.open(folder, os.O_RDONLY)  # a socket's name has 107 bytes, a test's folder may have more
        listener.bind(f"/proc/self/fd/{here}/{name}")
        os.close(here)
        assert f"{name} is a socket, not a file" in refusal(folder)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "target", ["/dev/zero", "/dev/stdin", "/proc/self/environ", "/proc/kmsg", "/", "../secret.txt"]
)
def test_a_link_out_of_the_folder_is_refused(name: str, target: str, folder: Path) -> None:
    (folder.parent / "secret.txt").write_bytes((folder / name).read_bytes())  # so that nothing but the link is wrong
    (folder / name).unlink()
    (folder / name).symlink_to(target)
    said = refusal(folder)
    assert f"{name} is a link out of its folder and is not followed; copy the folder with `cp -rL`" in said


@pytest.mark.parametrize("name", NAMES)
def test_a_link_by_way_of_a_folder_inside_is_followed_to_where_it_leads(name: str, folder: Path) -> None:
    (folder / "way").symlink_to(folder.parent)
    (folder / name).rename(folder.parent / name)
    (folder / name).symlink_to(f"way/{name}")
    assert "is a link out of its folder" in refusal(folder)


@pytest.mark.parametrize("name", NAMES)
def test_a_link_to_itself_or_to_nothing_is_refused(name: str, folder: Path) -> None:
    (folder / name).unlink()
    (folder / name).symlink_to(name)
    assert f"{name} could not be read (" in refusal(folder)
    (folder / name).unlink()
    (folder / name).symlink_to("absent")
    assert f"has no {name}; restore it, or train again." in refusal(folder)


def test_a_folder_as_kubernetes_mounts_it_loads(folder: Path) -> None:
    """Every file is a link to ..data, which is a link to the folder of this version, all inside the mount."""
    (folder / "..2026_01_01").mkdir()
    (folder / "..data").symlink_to("..2026_01_01")
    for name in NAMES:
        (folder / name).rename(folder / "..2026_01_01" / name)
        (folder / name).symlink_to(f"..data/{name}")
    assert load(folder).card == small_checkpoint().card
    (folder.parent / "current").symlink_to("copy")
    assert load(folder.parent / "current").card == small_checkpoint().card


def test_a_file_that_nobody_may_read_is_refused(folder: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("the superuser may read everything")
    (folder / CONFIG).chmod(0)
    assert f"{CONFIG} could not be read (Permission denied); make it a file that you may read" in refusal(folder)


def test_a_card_keeps_its_line_ends(tmp_path: Path) -> None:
    for card in ("", "a\r\nb\rc\n"):
        save(replace(small_checkpoint(), card=card), tmp_path / "folder")
        assert load(tmp_path / "folder").card == card


def test_of_a_folder_that_is_replaced_meanwhile_no_two_files_are_of_different_checkpoints(tmp_path: Path) -> None:
    both = [replace(small_checkpoint(seed=seed), card=str(seed), training={"seed": seed}) for seed in (1, 2)]
    for seed, one in enumerate(both, 1):
        save(one, tmp_path / str(seed))
    best = tmp_path / "best"
    coming = [Path(shutil.copytree(tmp_path / str(1 + at % 2), tmp_path / f"coming {at}")) for at in range(150)]
    coming.pop(0).rename(best)

    def replace_it() -> None:
        for at, folder in enumerate(coming):
            best.rename(tmp_path / f"gone {at}")
            folder.rename(best)
            time.sleep(0.001)

    thread = threading.Thread(target=replace_it)
    thread.start()
    while thread.is_alive():
        try:
            found = load(best)
        except CheckpointError:
            continue
        expected = both[found.training["seed"] - 1]
        assert found.card == expected.card
        assert found.tensors["out.bias"].tobytes() == expected.tensors["out.bias"].tobytes()
    thread.join()
    assert load(best).card == "2"


def test_weights_that_are_cut_while_they_are_read_do_not_end_the_process(folder: Path) -> None:
    """The end of a file that is mapped and cut is a signal, SIGBUS, that no Python code can catch."""
    program = f"""
import os, threading
from pathlib import Path
from model.checkpoint import load
from model.errors import CheckpointError
path = Path({str(folder / WEIGHTS)!r})
whole, done = path.read_bytes(), threading.Event()
def change():
    while not done.is_set():
        os.truncate(path, 100)
        with path.open("r+b") as file:
            file.write(whole)
thread = threading.Thread(target=change)
thread.start()
for _ in range(100):
    try:
        load(path.parent)
    except CheckpointError as error:
        pass
done.set()
thread.join()
load(path.parent)
print("lives")
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (0, "lives\n"), ended.stderr


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"a": 1, "b": 2, "a": 1}', "it has 'a' twice"),
        ('[{"x": {"\\u0061": 1, "a": 2}}]', "it has 'a' twice"),
        ("[NaN]", "it has 'NaN', which is no finite number"),
        ("-Infinity", "it has '-Infinity', which is no finite number"),
        ("1e400", "it has '1e400', which is no finite number"),
        ("9" * 5_000, "a number of more than 308 digits"),
        ("-" + "9" * 309, "a number of more than 308 digits"),
        ("0." + "1" * 10_000, "a number of more than 308 digits"),
        ("[" * 33 + "]" * 33, "it nests more than 32 deep"),
        ('{"a":' * 33 + "1" + "}" * 33, "it nests more than 32 deep"),
        ("[" * 100_000 + "]" * 100_000, "it has more than 32,768 lists"),
        ("[" * 30_000 + "]" * 30_000, "it nests more than 32 deep"),
        ("[" + "{}," * 4_096 + "{}]", "it has more than 4,096 tables"),
        ("[" + "[]," * 32_768 + "1]", "it has more than 32,768 lists"),
        (r'["\ud800"]', "half of a surrogate pair"),
        (r'{"\udfff": 1}', "half of a surrogate pair"),
        (r'["\uDE00\uD83D"]', "half of a surrogate pair"),
        ("\ufeff{}", "BOM"),
        ("{}\0", "Extra data"),
        ("", "Expecting value"),
        ('["a\0b"]', "Invalid control character"),
        ("[1,]", "(Illegal trailing comma|Expecting value)"),
        ("{'a': 1}", "Expecting property name"),
        ("0x10", "Extra data"),
        ("01", "Extra data"),
        ("1.", "Extra data"),
        ("٣", "Expecting value"),
    ],
    ids=lambda text: ascii(text)[:30],
)
def test_json_that_readers_differ_on_is_refused(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_json(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (r'"\ud83d\ude00 \u0000 \\ud800"', "😀 \0 \\ud800"),
        ("[" * 32 + "]" * 32, eval("[" * 32 + "]" * 32)),
        ("9" * 308, 10**308 - 1),
        ("[1e308, -0.0, 5e-324, 1e-400]", [1e308, 0.0, 5e-324, 0.0]),
        ("[" + "{}," * 4_095 + "{}]", [{}] * 4_096),
        (' {"a": {"a": [true, null]}} \n', {"a": {"a": [True, None]}}),
    ],
    ids=lambda text: ascii(text)[:30],
)
def test_json_at_the_bounds_is_read(text: str, value: Any) -> None:
    assert parse_json(text) == value
    if isinstance(value, int):
        float(value)
