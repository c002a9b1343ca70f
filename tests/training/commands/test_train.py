"""The verbs train and evaluate as a user runs them: real processes, real files, real signals."""

import json
import math
import os
import re
import signal
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from model.checkpoint import load
from model.command_line.options import flag_of, options_of
from model.errors import TrainingError, UnrollError
from tests.training.html_reader import read_html
from training.commands.shared import require
from training.commands.train import FORMER_FLAGS
from training.planning.run_folder import run_folder as choose
from training.planning.train_options import PlanOverrides, TrainOptions

VERSE = "Frère Jacques, dormez-vous ? Sonnez les matines, ding, dang, dong.\n"
QUICK = ["--layers", "1", "--hidden", "32", "--embedding", "8", "--seed", "3", "--precision", "fp32"]


def unroll(*words: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([sys.executable, "-m", "unroll", *words], input=stdin, capture_output=True, timeout=100)


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run trained from a Latin-1 file by the command a user would give."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "verse.txt").write_bytes((VERSE * 80).encode("latin-1"))
    corpus, out = str(folder / "verse.txt"), str(folder / "run")
    done = unroll("train", corpus, "--encoding", "latin-1", "--epochs", "8", "--threads", "2", "--out", out, *QUICK)
    assert done.returncode == 0, done.stderr.decode()
    output = done.stdout.decode()
    assert "verse.txt: 5,360 characters, 27 different" in output
    assert "1 × 32 LSTM" in output
    assert "fp32 on cpu, 2 threads" in " ".join(output.split())
    assert "Done: " in output
    assert re.search(r"train \d\.\d{3}  validation \d\.\d{3} bits per\s+character", output)
    return folder / "run"


def test_a_run_leaves_checkpoints_metrics_curves_and_a_card(run_folder: Path) -> None:
    assert {path.name for path in run_folder.iterdir()} == {
        "best", "last", "metrics.jsonl", "curves.svg", "report.html", "resume",
    }  # fmt: skip
    card = (run_folder / "best" / "README.md").read_text()
    training = load(run_folder / "best").training
    assert training["corpus"]["files"] == ["verse.txt"]
    assert training["command"].startswith("unroll train verse.txt --encoding latin-1 --epochs 8")
    test = training["figures"]["test"]
    assert f"| test | {test['characters']:,} | {test['bits_per_character']:.4f} |" in card
    assert test["nats_per_character"] == pytest.approx(test["bits_per_character"] * math.log(2), abs=1e-4)
    assert training["corpus"]["sha256"] in card


def test_an_empty_prompt_follows_the_end_of_the_train_part(run_folder: Path) -> None:
    text = VERSE * 80
    context = load(run_folder / "best").tokenizer.frame.context
    assert len(context) == 256
    train = text[: int(len(text) * 0.9)]
    assert context == train[: train.rindex("\n") + 1][-256:]
    drawn = [
        unroll("generate", str(run_folder / "best"), "--prompt", prompt, "--seed", "4", "--no-echo", "--raw").stdout
        for prompt in ("", context)
    ]
    assert drawn[0] == drawn[1]


def test_the_curves_of_a_run_are_a_file_too_point_for_point(run_folder: Path) -> None:
    root = ElementTree.parse(run_folder / "curves.svg").getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert root.attrib["viewBox"] == f"0 0 {root.attrib['width']} {root.attrib['height']}"
    drawn = [line.attrib["points"] for line in root.iter("{http://www.w3.org/2000/svg}polyline")]
    page = read_html((run_folder / "report.html").read_text("utf-8")).identified("curves")
    charts = [svg for svg in page.all("svg", "chart") if "narrow" not in svg.styles()]  # drawn once more for a phone
    assert drawn == [line.attributes["points"] for svg in charts for line in svg.all("polyline")]
    assert len(drawn) == 5
    assert len(drawn[0].split()) == len((run_folder / "metrics.jsonl").read_text().splitlines())


def test_training_loads_no_library_that_draws_and_no_compiler(tmp_path: Path) -> None:
    (tmp_path / "verse.txt").write_text(VERSE * 50)
    words = ["unroll", "train", "verse.txt", "--epochs", "0.5", "--out", "run", *QUICK]
    program = f"""
import sys
from unroll import main
sys.argv = {words!r}
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
assert "torch" in sys.modules
assert "matplotlib" not in sys.modules
assert "torch._dynamo" not in sys.modules
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=environment, check=True, timeout=100)
    assert (tmp_path / "run" / "curves.svg").is_file()


def test_evaluate_repeats_the_figures_of_the_card(run_folder: Path) -> None:
    corpus = str(run_folder.parent / "verse.txt")
    common = ["evaluate", str(run_folder / "best"), corpus, "--encoding", "latin-1", "--json", "--split", "90/5/5"]
    figures = load(run_folder / "best").training["figures"]
    for reader, tolerance in (("network", 1e-4), ("fp32", 1e-4), ("int8", 0.01)):
        answer = json.loads(unroll(*common, "--reader", reader).stdout)
        assert answer["reader"] == reader
        for part, score in figures.items():
            if part.endswith(", cold"):  # of random windows, as many as there was time for
                assert score["bits_per_character"] == pytest.approx(
                    figures[part.removesuffix(", cold")]["bits_per_character"], abs=0.5
                )
                continue
            found = answer["parts"][part]
            assert found["bits_per_character"] == pytest.approx(score["bits_per_character"], abs=tolerance)
            assert found["characters"] == score["characters"]
    whole = json.loads(unroll("evaluate", str(run_folder / "best"), corpus, "--encoding", "latin-1", "--json").stdout)
    assert whole["parts"]["whole"]["characters"] == 5_359
    table = unroll("evaluate", str(run_folder / "best"), corpus, "--encoding", "latin-1").stdout.decode()
    assert f"{whole['parts']['whole']['bits_per_character']:.4f}" in table


def test_an_earlier_run_is_not_written_over_unless_asked(run_folder: Path) -> None:
    corpus = str(run_folder.parent / "verse.txt")
    before = (run_folder / "best" / "model.safetensors").read_bytes()
    again = ["train", corpus, "--encoding", "latin-1", "--epochs", "0.5", "--out", str(run_folder), *QUICK]
    refused = unroll(*again)
    assert refused.returncode == 1
    assert "choose another --out, or --overwrite" in " ".join(refused.stderr.decode().split())
    assert (run_folder / "best" / "model.safetensors").read_bytes() == before


def test_what_training_needs_is_named_where_it_is_missing() -> None:
    require("torch")
    with pytest.raises(UnrollError, match="Training needs no_such_package, which serving does not; install it with"):
        require("torch", "no_such_package")


def test_one_character_cannot_be_evaluated(run_folder: Path) -> None:
    done = unroll("evaluate", str(run_folder / "best"), "-", stdin="詩".encode())
    assert done.returncode == 1
    assert "fewer than two characters" in " ".join(done.stderr.decode().split())


def test_a_file_is_no_folder_for_a_run(run_folder: Path) -> None:
    corpus = str(run_folder.parent / "verse.txt")
    with pytest.raises(TrainingError, match="is a file, not a folder"):
        choose(TrainOptions(corpus=(corpus,), overrides=PlanOverrides(), out=Path(corpus)))


def test_without_out_every_run_has_a_folder_named_after_its_corpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.book.txt").touch()
    folders = []
    for names in (("my.book.txt",), ("my.book.txt", "x"), (".",), ("-",), ()):
        folders.append(folder := choose(TrainOptions(corpus=names, overrides=PlanOverrides())))
        folder.mkdir(parents=True)
    assert [str(folder) for folder in folders] == [
        "runs/my", "runs/my-2", f"runs/{tmp_path.name}", "runs/stdin", "runs/reference"
    ]  # fmt: skip


def test_a_pipe_trains_and_the_same_seed_repeats_the_run(tmp_path: Path) -> None:
    text = (VERSE * 50).encode()
    for name in ("a", "b"):
        done = unroll("train", "-", "--epochs", "2", "--out", str(tmp_path / name), *QUICK, stdin=text)
        assert done.returncode == 0, done.stderr.decode()
    weights = [(tmp_path / name / "last" / "model.safetensors").read_bytes() for name in ("a", "b")]
    assert weights[0] == weights[1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_stops_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    corpus = tmp_path / "verse.txt"
    corpus.write_text(VERSE * 500)
    words = ["train", str(corpus), "--epochs", "300", *QUICK, "--out", str(tmp_path / "run")]
    command = [sys.executable, "-m", "unroll", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        try:
            assert process.stdout is not None
            for line in iter(process.stdout.readline, b""):
                if b"validation" in line:  # in the midst of the run: the first of its twenty checks
                    break
            os.kill(process.pid, number)
            output, _ = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 0, output.decode()
    assert b"Stopped early, saved" in output
    assert b"Traceback" not in output
    for name in ("best", "last"):
        assert load(tmp_path / "run" / name).training


def test_a_run_from_python_that_is_stopped_is_saved_and_not_taken_for_a_whole_one(tmp_path: Path) -> None:
    corpus, run = tmp_path / "verse.txt", tmp_path / "run"
    corpus.write_text(VERSE * 500)
    program = (
        f"import unroll; unroll.train({str(corpus)!r}, out={str(run)!r}, epochs=300, layers=1, hidden=32); "
        "print('a whole run')"
    )
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if "validation" in line and "%" in line:  # the first of its checks
                    break
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == -signal.SIGINT, err
    assert "a whole run" not in out
    assert f"`unroll train --resume {run}` goes on with it" in err
    assert load(run / "best").training


@pytest.mark.parametrize(
    ("content", "flags", "sentence"),
    [
        (b"ok " * 2000 + b"\xe9", [], "is not utf-8 text at byte 6,000"),
        (b"too short", [], "2,000 are enough to start"),
        (VERSE.encode() * 60, ["--split", "7/7"], "--split is '7/7'; choose nanogpt"),
        (VERSE.encode() * 60, ["--encoding", "klingon"], "'klingon' is not a text encoding"),
        (VERSE.encode() * 60, ["--rate", "-1"], "--rate is -1; choose a number above 0, up to 1."),
        (VERSE.encode() * 60, ["--device", "tpu"], "--device is 'tpu'; choose auto, or one this machine has: cpu"),
        (VERSE.encode() * 60, ["--seed", "-1"], "--seed is -1; choose a whole number"),
        (VERSE.encode() * 60, ["--epochs", "nan"], "--epochs is nan; choose a number above 0"),
        (VERSE.encode() * 60, ["--lanes", "2000"], "--lanes is 2,000, but"),
        ("詩".encode() * 700, [], "The corpus has 700 characters"),
        (VERSE.encode() * 60, ["--lanes", "0"], "--lanes is 0; choose"),
        (VERSE.encode() * 60, ["--batch-size", "0"], "--batch-size is 0; choose"),
    ],
)
def test_what_cannot_be_trained_is_a_sentence_before_anything_is_written(
    tmp_path: Path, content: bytes, flags: list[str], sentence: str
) -> None:
    corpus = tmp_path / "corpus.txt"
    corpus.write_bytes(content)
    done = unroll("train", str(corpus), "--epochs", "1", "--out", str(tmp_path / "run"), *flags)
    assert done.returncode == 1
    assert sentence in " ".join(done.stderr.decode().split())
    assert b"Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()


@pytest.fixture(scope="module")
def flags_in_help() -> list[str]:
    """The first flag of each line of the help."""
    shown = unroll("train", "--help").stdout.decode()
    return [words[0] for line in shown.splitlines() if (words := re.findall(r"^  (?:-h, )?(--[\w-]+)", line))]


def test_the_help_shows_every_option_once_and_no_former_flag(flags_in_help: list[str]) -> None:
    expected = [flag_of(one) for one in options_of(TrainOptions) if flag_of(one) != "CORPUS"]
    assert sorted(flags_in_help) == sorted([*expected, "--help"])
    assert not {f"--{former}" for former in FORMER_FLAGS} & set(flags_in_help)


@pytest.mark.parametrize(("flag", "former"), [(flag, former) for former, flag in FORMER_FLAGS.items()])
def test_a_former_flag_means_its_new_name(flag: str, former: str, flags_in_help: list[str]) -> None:
    assert f"--{flag}" in flags_in_help
    for name in (flag, former):
        refused = unroll("train", *QUICK, f"--{name}", "x")
        assert refused.returncode == 2
        assert f"'--{name}'" in " ".join(refused.stderr.decode().split())  # as it was typed


@pytest.mark.parametrize("name", ["batch-size", "lanes"])
def test_evaluate_knows_its_former_flag_too(name: str) -> None:
    refused = unroll("evaluate", "checkpoint", "text", f"--{name}", "0")
    assert refused.returncode == 2
    assert f"'--{name}'" in " ".join(refused.stderr.decode().split())
