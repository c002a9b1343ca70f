"""A whole comparison in small: planned first, repeated exactly, gone on with where it was ended, shown three ways."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from model.errors import CorpusError, ParameterError, TrainingError
from tests.training.comparison.calling import compare
from tests.training.html_reader import read_html
from tests.training.verse import VERSE
from training.comparison import language_run, memory_tasks
from unroll import program

KINDS = ("carried", "memory")
QUICK = ("--steps", "2", "--seeds", "1", "--parameters", "20000")


@pytest.fixture(scope="module", autouse=True)
def few_sequences() -> Iterator[None]:
    """Memory is judged on a few sequences: hundreds of the longest take most of a second."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory_tasks, "JUDGED", 8)
        yield


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("corpus") / "verse.txt"
    path.write_text(VERSE * 300)
    return path


def without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: without_times(one) for name, one in value.items() if name != "times"}
    return value


def written(folder: Path) -> Any:
    return without_times(json.loads((folder / "compare.json").read_text("utf-8")))


@pytest.fixture(scope="module")
def whole(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A comparison of all cells, its folder and what it printed."""
    out = tmp_path_factory.mktemp("whole") / "compare"
    return out, compare(corpus, *QUICK, "--out", out)


def test_the_plan_is_printed_first_and_every_table_after(whole: tuple[Path, str]) -> None:
    out, printed = whole
    lines = printed.splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["corpus", "networks", "steps"]
    assert "equal time   left out: --steps has no time" in lines
    titles = ["Sequence handling", "Efficiency", "Memory retention", "Stability"]
    places = [lines.index(title) for title in titles]
    assert places == sorted(places)
    assert places[0] > max(at for at, line in enumerate(lines) if line.startswith("17/17"))
    page = read_html((out / "compare.html").read_text("utf-8"))
    assert [one.text for one in page.all("h2")] == titles
    rows = [[cell.text for cell in row.all("th") + row.all("td")] for row in page.all("tr")]
    bits = written(out)["parts"]["steps-gru-1"]["figures"]["bits"]
    assert any(row[0] == "gru" and row[4] == f"{bits['validation_carried']:.3f}" for row in rows)
    with_memory = ["gru", *(f"{bits[f'{part}_{how}']:.3f}" for part in ("validation", "test") for how in KINDS)]
    assert with_memory in rows
    assert "Equal steps, with the online memory" in lines
    assert bits["test_memory"] < bits["test_carried"] / 2  # the verse comes again and again, and two steps teach little


def test_the_networks_have_equal_parameters_and_every_claim_a_figure(whole: tuple[Path, str]) -> None:
    found = written(whole[0])
    sizes = [network["parameters"] for network in found["plan"]["networks"].values()]
    assert all(abs(size - 20_000) < 2_500 for size in sizes)  # widths are multiples of 8
    for cell, network in found["plan"]["networks"].items():
        costs = found["parts"]["efficiency"]["figures"][cell]
        assert costs["state_bytes"] == 4 * network["hidden"] * (2 if cell == "lstm" else 1)
        assert costs["training_bytes"] > 16 * network["parameters"]
        run = found["parts"][f"steps-{cell}-1"]["figures"]
        assert list(run["context"]) == [str(2**power) for power in range(11)]
        assert run["stability"]["steps"] == 2
        assert run["stability"]["roll_backs"] == 0
        assert found["parts"][f"unclipped-{cell}"]["figures"]["stability"]["clipped"] == 0


def test_with_steps_a_second_comparison_is_the_same_but_for_times(
    whole: tuple[Path, str], corpus: Path, tmp_path: Path
) -> None:
    compare(corpus, *QUICK, "--out", tmp_path / "again")
    assert written(tmp_path / "again") == written(whole[0])


def test_an_ended_comparison_goes_on_and_does_nothing_twice(
    whole: tuple[Path, str], corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, out = language_run.language_run, tmp_path / "ended"
    runs: list[str] = []

    def counted(run: Any, *others: Any) -> Any:
        if len(runs) == 4 and "again" not in runs:
            raise KeyboardInterrupt
        runs.append(run.network.cell)
        return kept(run, *others)

    monkeypatch.setattr("training.comparison.compare.language_run", counted)
    result = CliRunner().invoke(program, ["compare", str(corpus), *QUICK, "--out", str(out)])
    assert result.exit_code != 0
    assert len(runs) == 4
    before = {path.name: path.read_bytes() for path in (out / "parts").iterdir()}
    assert len(before) == 4
    runs.append("again")
    printed = compare(corpus, *QUICK, "--out", out)
    assert printed.count("(done before)") == 4
    assert len(runs) == 7  # four, the mark, and the two that were left
    assert {name: (out / "parts" / name).read_bytes() for name in before} == before
    assert written(out) == written(whole[0])


def test_a_folder_of_another_comparison_is_refused_and_kept(whole: tuple[Path, str], corpus: Path) -> None:
    before = (whole[0] / "compare.json").read_bytes()
    with pytest.raises(ParameterError, match="with other steps; choose another --out"):
        compare(corpus, "--steps", "3", *QUICK[2:], "--out", whole[0])
    assert (whole[0] / "compare.json").read_bytes() == before


def test_a_part_with_other_figures_is_refused_with_a_remedy(
    whole: tuple[Path, str], corpus: Path, tmp_path: Path
) -> None:
    out = tmp_path / "compare"
    shutil.copytree(whole[0], out)
    part = out / "parts" / "steps-gru-1.json"
    whole_part = part.read_text()
    for lacking in ("bits", "stability", "context"):
        kept = json.loads(whole_part)
        del kept["figures"][lacking]
        part.write_text(json.dumps(kept))
        with pytest.raises(
            TrainingError, match=f"^{part} lacks the figure {lacking}, .* remove that file, and this part"
        ):
            compare(corpus, *QUICK, "--out", out)
    others: list[Any] = [[], "x", {}, {"1": "x"}]
    for other in others:
        kept = json.loads(whole_part)
        kept["figures"]["context"] = other
        part.write_text(json.dumps(kept))
        with pytest.raises(
            TrainingError, match=f"has other figures than this .* remove {out}, or choose another --out"
        ):
            compare(corpus, *QUICK, "--out", out)


def test_a_part_that_is_damaged_is_done_again(whole: tuple[Path, str], corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "compare"
    shutil.copytree(whole[0], out)
    part = out / "parts" / "memory-copy-gru.json"
    before = json.loads(part.read_text())["figures"]
    for damage in ("{}", '{"figures": null, "times": {}}', '{"figures": {', "[]", ""):
        part.write_text(damage)
        compare(corpus, *QUICK, "--out", out)
        assert json.loads(part.read_text())["figures"] == before


def test_the_hybrid_is_an_lstm_with_attention_and_as_many_parameters(corpus: Path, tmp_path: Path) -> None:
    words = ("--steps", "2", "--seeds", "1", "--parameters", "40000", "--cells", "lstm,hybrid")
    printed = compare(corpus, *words, "--out", tmp_path / "out")
    found = written(tmp_path / "out")
    lstm, hybrid = (found["plan"]["networks"][name] for name in ("lstm", "hybrid"))
    assert (hybrid["cell"], hybrid["attention"]) == ("lstm", 256)
    assert hybrid["parameters"] == pytest.approx(lstm["parameters"], rel=0.1)
    costs = found["parts"]["efficiency"]["figures"]
    # A key of 64 bytes and what followed it, for each of 256 characters, and the place of the newest.
    assert costs["hybrid"]["state_bytes"] == 4 * 2 * hybrid["hidden"] + 256 * (64 + 4) + 4
    assert costs["hybrid"]["training_bytes"] > costs["lstm"]["training_bytes"]
    assert found["parts"]["steps-hybrid-1"]["figures"]["bits"] != found["parts"]["steps-lstm-1"]["figures"]["bits"]
    assert "memory-copy-hybrid" not in found["parts"]  # those tasks have no characters to point at
    assert sum(line.startswith("hybrid") for line in printed.splitlines()) == 8


def test_with_minutes_there_are_tables_of_equal_steps_and_equal_time(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "timed"
    printed = compare(
        corpus, "--minutes", "0.03", "--cells", "rnn,lstm", "--seeds", "2", "--parameters", "20000", "--out", out
    )
    found = json.loads((out / "compare.json").read_text("utf-8"))
    assert "Equal time: " in printed
    assert "Equal steps: " in printed
    seconds = found["plan"]["seconds"]
    for name in ("time-rnn-1", "time-rnn-2", "time-lstm-1", "time-lstm-2"):
        assert found["parts"][name]["times"]["seconds"] >= seconds  # the step in hand is the last
    assert "[" in next(line for line in printed.splitlines() if line.startswith("lstm") and "–" in line)


def test_all_cells_are_trained_in_fp32_where_that_is_asked_and_another_precision_is_another_comparison(
    corpus: Path, tmp_path: Path
) -> None:
    words = (*QUICK, "--cells", "rnn,lstm", "--out", tmp_path / "out")
    printed = compare(corpus, *words, "--precision", "fp32")
    assert "fp32" in next(line for line in printed.splitlines() if line.startswith("steps"))
    assert "Trained in fp32, all cells by PyTorch." in (tmp_path / "out" / "compare.html").read_text("utf-8")
    with pytest.raises(ParameterError, match="with other precision; choose another --out"):
        compare(corpus, *words)
    path = tmp_path / "out" / "plan.json"
    plan = json.loads(path.read_text("utf-8"))
    del plan["asked"]["precision"]  # as an earlier version wrote it
    path.write_text(json.dumps(plan))
    assert compare(corpus, *words).count("(done before)") == 12


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--cells", "rnn,gpt"], "choose among lstm, gru, rnn"),
        (["--minutes", "1", "--steps", "5"], "two budgets; choose one"),
        (["--seeds", "0"], "--seeds is 0; choose a whole number from 1 to 100"),
    ],
)
def test_what_cannot_be_compared_is_refused(words: list[str], sentence: str, corpus: Path) -> None:
    with pytest.raises(ParameterError, match=sentence):
        compare(corpus, *words)


def test_an_empty_corpus_is_refused_with_what_would_be_enough(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("")
    with pytest.raises(CorpusError, match=r"The corpus has 0 characters.*2,000 are enough to start"):
        compare(tmp_path / "empty.txt", *QUICK, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()
