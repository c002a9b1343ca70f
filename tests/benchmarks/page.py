"""What the page costs a browser: its bytes, the first paint with nothing cached, work on the main thread a frame."""

import gzip
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from service.playground.static_files import FOLDER
from tests.benchmarks.figures import Figure
from tests.benchmarks.server_process import served

BROWSER = Path(__file__).parents[1] / "browser"
LARGEST, FRAME = 60, 16  # kB of all files, compressed; milliseconds of a frame, so that 60 of them fit a second


def measure() -> list[Figure]:
    """Open the page in Chromium, and let it write 20,000 characters with a colour each."""
    chromium, node = shutil.which("chromium"), shutil.which("node")
    if chromium is None or node is None or not (BROWSER / "node_modules").is_dir():
        sys.exit("The page is measured in Chromium: apt-get install chromium nodejs npm, then once `make browser`.")
    with served() as server:
        done = subprocess.run(
            [node, str(BROWSER / "measure.mjs"), f"http://127.0.0.1:{server.port}/"],
            env={**os.environ, "CHROMIUM": chromium},
            stdout=subprocess.PIPE,
            check=True,
        )
    found = json.loads(done.stdout)
    kilobytes = sum(len(gzip.compress(file.read_bytes())) for file in FOLDER.iterdir()) / 1000
    return [
        Figure("page, all files, compressed", kilobytes, "kB", LARGEST, "most"),
        Figure("page, what the first view fetches", found["bytes_at_start"] / 1000, "kB"),
        Figure("page, first paint, nothing cached, median of 7 browsers", found["first_paint_ms"], "ms"),
        Figure("page, ready to write, nothing cached", found["ready_ms"], "ms"),
        Figure("page, characters shown", found["shown"], "characters", 20_000),
        Figure("page, frames while they were written", found["frames"], "frames"),
        Figure("page, main-thread work a frame, median", found["work_p50"], "ms"),
        Figure("page, main-thread work a frame, 95th percentile", found["work_p95"], "ms", FRAME, "most"),
        Figure("page, the same by the clock, with what else ran", found["clock_p95"], "ms"),
        Figure("page, shifts of its layout", found["shifts"], "shifts", 0, "most"),
    ]
