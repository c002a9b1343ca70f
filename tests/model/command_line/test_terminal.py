"""Text of a corpus, a model or a name is shown on a terminal and never steers it; a pipe gets it as it is."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from rich.table import Table

from model.checkpoint import save
from model.command_line.console import TerminalConsole
from model.command_line.terminal import for_terminal, in_a_line, json_for_terminal, shell_word
from tests.model.small import small_checkpoint

ROOT = Path(__file__).parents[3]
WICKED = "red\x1b[31m bell\x07 title\x1b]0;x\x07 back\x08\r csi\x9b31m turned\u202e\u2066 half\udcff line\u2028"
STEERS = set(WICKED) - set(WICKED.encode("ascii", "ignore").decode()) | set("\x1b\x07\x08\r")


def on_a_terminal(*words: str | Path, columns: int = 80) -> tuple[int, str]:
    """Run the program on a pseudo-terminal; its exit code and what the terminal was sent."""
    environment = {**os.environ, "COLUMNS": str(columns), "TERM": "dumb", "PYTHONPATH": str(ROOT)}
    main, side = pty.openpty()
    running = subprocess.Popen(
        [sys.executable, "-m", "unroll", *map(str, words)], stdin=side, stdout=side, stderr=side, env=environment
    )
    os.close(side)
    sent = b""
    try:
        while block := os.read(main, 1 << 16):
            sent += block
    except OSError:  # its end, as Linux says it
        pass
    os.close(main)
    return running.wait(), sent.decode().replace("\r\n", "\n")


def test_controls_are_shown_and_ordinary_text_is_left_as_it_is() -> None:
    assert (
        for_terminal("a\x1b[31mb\x07\x7f\x9b\u202ec\r\n\td\udcffe\ud800") == "a␛[31mb␇␡\ufffd\ufffdc␍\n\td\\xffe\ufffd"
    )
    assert in_a_line("a\nb\tc\x1b") == "a␊b␉c␛"
    for text in ("naïve 詩 👩\u200d💻 نی\u200cما a\u00a0b\u00adc\u3000", "tab\tline\n"):
        assert for_terminal(text) == text
    assert not STEERS & set(for_terminal(WICKED))


def test_a_path_is_written_as_a_shell_reads_it_back() -> None:
    for path in ("plain/best", "with space", "it's", "only\udcff.txt", "new\nline", "esc\x1b[1m'\\", "詩\u202e"):
        read = subprocess.run(["bash", "-c", f"printf %s {shell_word(path)}"], capture_output=True, check=True).stdout
        assert read == os.fsencode(path)
        assert for_terminal(shell_word(path)) == shell_word(path)
    assert shell_word(Path("runs/book")) == "runs/book"


def test_json_means_the_same_and_steers_nothing() -> None:
    written = json_for_terminal(json.dumps({"text": WICKED}, ensure_ascii=False))
    assert json.loads(written) == {"text": WICKED}
    assert not STEERS & set(written)
    written.encode("utf-8")


def test_whatever_is_printed_on_the_console_is_harmless(capsys: pytest.CaptureFixture[str]) -> None:
    console = TerminalConsole(width=200)
    table = Table("name", title=WICKED)
    table.add_row(WICKED)
    for one in (WICKED, table, f"[link=x]{WICKED}[/link]"):
        console.print(one)
        console.print(one, soft_wrap=True)
    shown = capsys.readouterr().out
    assert shown.count("red␛[31m bell␇") >= 6
    assert not STEERS & set(shown)


def test_generate_shows_a_terminal_what_it_gives_a_pipe_raw(tmp_path: Path) -> None:
    save(small_checkpoint(), tmp_path / "model")
    words = ["generate", str(tmp_path / "model"), "--prompt", "a\x1b[31mb\x07\u202ec\n", "--max-tokens", "0", "--echo"]
    code, shown = on_a_terminal(*words)
    assert code == 0, shown
    assert "a␛[31mb␇\ufffdc\n" in shown
    assert not STEERS & set(shown)
    piped = subprocess.run([sys.executable, "-m", "unroll", *words], capture_output=True, check=True, cwd=ROOT)
    assert piped.stdout.decode().startswith("a\x1b[31mb\x07\u202ec\n")


@pytest.mark.parametrize(
    "words",
    [
        ["generate", "no\x1b[31mthing\x07"],
        ["info", "only\udcff"],
        ["generate", "--no\x1b[31msuch"],
        ["generate", "a", "extra\x1b]0;title\x07"],
        ["no\x1b[31mverb"],
        ["generate", "--top-k", "x\x1b[31m"],
        ["info", "a" * 300],
        ["generate", "--prompt-file", "x\x1b[31m/" + "a" * 300],
    ],
)
def test_refusals_do_not_steer_either(words: list[str]) -> None:
    code, shown = on_a_terminal(*words, columns=120)
    assert code in (1, 2)
    assert "Traceback" not in shown
    assert not STEERS & set(shown)
