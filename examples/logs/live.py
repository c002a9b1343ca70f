"""A log that grows while `tail -f` hands it to `unroll score`, which shows what is odd as soon as it is written."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import IO, NamedTuple

from examples.logs.by_unroll import RANKED
from examples.logs.ssh_log import Log

ONE_IN = 20  # lines is odd
PATIENCE = 60  # seconds for `unroll score` to load the model, or to read what was written


class Live(NamedTuple):
    """What was seen. seconds: from an odd line's writing to its showing, the worst of those that were found."""

    written: int
    odd: int
    found: int
    false_alarms: int
    seconds: float


def watch(
    checkpoint: Path, threshold: float, file: Path, lines: int, pause: float, seed: int = 7
) -> Iterator[str | Live]:
    """Write lines to a file, one each pause of so many seconds; yield each line that is shown, and at the end what was
    seen. It needs `tail`."""
    file.write_bytes(b"")
    log = Log(seed)
    mark = log.chance.choice("$%&") * 40  # odd to any model: it is shown once the model is loaded, and at the end
    when: dict[str, float] = {}
    kinds: dict[str, str | None] = {}
    shown: list[tuple[float, str]] = []
    with _scoring(checkpoint, threshold, file) as output:
        reader = Thread(target=_read, args=(output, shown), daemon=True)
        reader.start()
        _append(file, mark)
        _wait_for(shown, mark, 1)
        for _ in range(lines):
            kind, line = (None, log.line()) if log.chance.randrange(ONE_IN) else log.anomaly()
            kinds[line], when[line] = kind, time.monotonic()
            _append(file, line)
            time.sleep(pause)
        _append(file, mark)
        _wait_for(shown, mark, 2)
        seen = [(at, line.split("\t", 4)) for at, line in shown if not line.endswith(mark)]
    yield from (f"{columns[3]} bits: {columns[4]}  [{kinds[columns[4]] or 'a false alarm'}]" for _, columns in seen)
    found = [at - when[columns[4]] for at, columns in seen if kinds[columns[4]]]
    odd = sum(kind is not None for kind in kinds.values())
    yield Live(len(kinds), odd, len(found), len(seen) - len(found), max(found, default=0.0))


@contextmanager
def _scoring(checkpoint: Path, threshold: float, file: Path) -> Iterator[IO[str]]:
    """`tail -f FILE | unroll score …`, whose output this is; both end with it."""
    command = [
        sys.executable,
        "-m",
        "unroll",
        "score",
        str(checkpoint),
        "-",
        *RANKED,
        "--threshold",
        f"{threshold:.3f}",
    ]
    with (
        subprocess.Popen(["tail", "-n", "+1", "-f", str(file)], stdout=subprocess.PIPE) as tail,
        subprocess.Popen(command, stdin=tail.stdout, stdout=subprocess.PIPE, text=True) as scoring,
    ):
        try:
            assert scoring.stdout is not None
            yield scoring.stdout
        finally:
            tail.terminate()


def _read(output: IO[str], shown: list[tuple[float, str]]) -> None:
    for line in output:
        shown.append((time.monotonic(), line.rstrip("\n")))


def _wait_for(shown: list[tuple[float, str]], mark: str, times: int) -> None:
    """Until a line has been shown so often: those before it have been read by then."""
    began = time.monotonic()
    while sum(line.endswith(mark) for _, line in shown) < times and time.monotonic() - began < PATIENCE:
        time.sleep(0.05)


def _append(file: Path, line: str) -> None:
    with file.open("a", encoding="utf-8") as opened:
        opened.write(f"{line}\n")
