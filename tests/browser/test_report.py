"""A run's report in Chromium: light and dark, on a desk and on a phone, of a text and of a list of names."""

import os
import random
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.model.small import small_checkpoint
from training.report.held_out_page import held_out_page
from training.report.report import ReportData, write_report
from training.report.sample_texts import CopiedText

HERE = Path(__file__).parent
CHANCE = random.Random(1)
NAMES = "".join("".join(CHANCE.choices("abcde", k=CHANCE.randrange(3, 10))) + "\n" for _ in range(1200))
LINE = "A line of a text that is longer than any column, as most lines of a book are.\n"

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]


def validation(number: int, text: str) -> dict[str, Any]:
    return {
        "step": 100 * number, "characters": 200_000 * number, "seconds": 30.0 * number, "progress": number / 20,
        "rate": 0.004 / number, "characters_per_second": 6000.0, "train_bits": 4 / number,
        "validation_bits": 3 / number, "gradient_norm": 0.5,
        "samples": dict.fromkeys(("0.5", "0.8", "1"), text[:300]),
    }  # fmt: skip


def written(text: str, path: Path) -> None:
    """Write the report of a run on a text that a small network stands for."""
    checkpoint = small_checkpoint()
    score = {"bits_per_character": 2.07, "nats_per_character": 1.43, "characters": 50_000, "protocol": "carried " * 9}
    training = {
        "name": "a-run", "figures": {"validation": score, "test": score}, "steps": 2000, "characters_read": 4_000_000,
        "corpus": {"files": ["a.txt"], "characters": 1_000_000, "encoding": "utf-8", "sha256": "8" * 64}, "seconds": 60,
        "command": "unroll train a.txt --minutes 1 --hidden 256 --layers 2 --out runs/a-run",
    }  # fmt: skip
    copied = CopiedText(
        text=text[:10_000], stretches=[(20, 45)], longest=text[20:45], novel={8: 0.3}, sentence=f"“{'#' * 90}”"
    )
    write_report(
        ReportData(
            name="a-run",
            network=checkpoint.config,
            training=training,
            validations=[validation(number, text) for number in range(1, 21)],
            page=held_out_page(checkpoint, checkpoint.tokenizer.encode(text)),
            copied=copied,
            notes=["Raise `unroll train --minutes 3`, which is --minutes, to learn more."],
            checkpoint="runs/a-run/best",
        ),
        path,
    )


def test_reports_are_for_everyone(tmp_path: Path) -> None:
    chromium, node = shutil.which("chromium"), shutil.which("node")
    if chromium is None or node is None:
        pytest.fail("needs Chromium and Node: apt-get install chromium nodejs npm")
    assert (HERE / "node_modules").is_dir(), "needs its npm packages: make browser"
    written(LINE * 100, tmp_path / "text.html")
    written(NAMES, tmp_path / "list.html")
    done = subprocess.run(
        [node, str(HERE / "run.mjs"), "reports_are_for_everyone", f"file://{tmp_path}/"],
        env={**os.environ, "CHROMIUM": chromium},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
