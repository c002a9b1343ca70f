"""The recipe for logs: its data, its rivals and its figures on lines made here, and in miniature all of it."""

import hashlib
import random
import re
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from examples.logs import sources
from examples.logs.__main__ import program
from examples.logs.evaluation import best_on_validation, found_at, is_odd, lead, precision_at, threshold
from examples.logs.planting import DAMAGED, KINDS, plant
from examples.logs.recipe import LOGS, run
from examples.logs.rivals import CharacterGrams
from examples.logs.sets import hdfs, labelled, letters, made, planted
from examples.logs.sources import Library, MissingData, Source, loghub
from examples.logs.ssh_log import Log
from examples.logs.surprise import HIGHEST
from examples.logs.table import HEAD
from examples.running import RecipeError

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "examples" / "logs" / "README.md").read_text("utf-8")
SESSIONS = [
    f"{begun} 11 9 {'26 ' * ends}{moved}23 21"
    for begun in ("5 5 22", "22 5 5", "5 22 5")
    for ends in (1, 2, 3)
    for moved in ("", "3 4 ", "2 ", "3 3 4 ")
]


def lines_of(count: int, seed: int = 3) -> list[str]:
    log = Log(seed)
    return [log.line() for _ in range(count)]


def put(folder: Path, source: Source, lines: list[str]) -> None:
    file = folder / source.repository.name / source.path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(f"{line}\r\n" for line in lines), encoding="utf-8")


@pytest.fixture
def library(tmp_path: Path) -> Library:
    """Files in the form of those of others, with lines made here."""
    put(tmp_path, sources.HDFS_TRAIN, SESSIONS * 6)
    put(tmp_path, sources.HDFS_ABNORMAL, [f"5 {event}" for event in range(1, 29)] * 4)
    table = ["Sequence,label", *(f"{session},0" for session in SESSIONS), "5 22,1"]
    put(tmp_path, sources.HDFS_TEST, table)
    put(tmp_path, sources.HDFS_VALIDATE, table)
    for name in ("BGL", "Thunderbird"):
        put(
            tmp_path,
            loghub(name),
            [f"{'KERNSTOR' if at % 10 == 3 else '-'} {line}" for at, line in enumerate(lines_of(200))],
        )
    put(tmp_path, loghub("OpenSSH"), lines_of(200, 4))
    return Library(tmp_path)


def test_sessions_are_words_of_a_letter_for_each_event() -> None:
    assert letters("5 5 22 26 27 28 1 ") == "EEVZabA"
    for other in ("5 5 x", "0", "53", "-1", "5,5", "٣"):
        with pytest.raises(RecipeError, match="this is none"):
            letters(other)


def test_files_of_another_kind_are_refused_in_a_sentence(tmp_path: Path) -> None:
    put(tmp_path, sources.HDFS_TRAIN, SESSIONS)
    put(tmp_path, sources.HDFS_ABNORMAL, ["5 22"])
    for source in (sources.HDFS_VALIDATE, sources.HDFS_TEST):
        put(tmp_path, source, ["a,b", "1,2"])
    with pytest.raises(RecipeError, match="no columns Sequence and label"):
        hdfs(Library(tmp_path))
    put(tmp_path, loghub("BGL"), [f"- {line}" for line in lines_of(200)])
    with pytest.raises(RecipeError, match="BGL has no odd lines to tune on, or no usual ones"):
        run(labelled(Library(tmp_path)), tmp_path / "out")


def test_sessions_of_hdfs_are_split_as_labelled(library: Library) -> None:
    log = hdfs(library)
    assert log.train == [letters(session) for session in SESSIONS] * 6
    for part in (log.validate, log.test):
        assert [line.text for line in part if line.kind is None] == [letters(session) for session in SESSIONS]
    odd = [line.text for part in (log.validate, log.test) for line in part if line.kind]
    assert sorted(odd) == sorted(letters(f"5 {event}") for event in range(1, 29) for _ in range(4))
    assert 0 < sum(line.kind is not None for line in log.validate) < len(odd) / 4
    assert any("is not the file" in note for note in library.notes)


def test_the_label_of_a_line_is_hidden_and_no_alert_is_learnt(library: Library) -> None:
    log = labelled(library)
    every = lines_of(200)
    assert sorted([*log.train, *(line.text for line in (*log.validate, *log.test))]) == sorted(every)
    alerts = {line for at, line in enumerate(every) if at % 10 == 3}
    assert {line.text for line in (*log.validate, *log.test) if line.kind} == alerts
    assert not alerts & set(log.train)


@pytest.mark.parametrize("name", ["OpenSSH", "Thunderbird"])
def test_odd_lines_are_planted_where_nothing_is_learnt(library: Library, name: str) -> None:
    log = planted(library, name)
    usual = set(lines_of(200, 4) if name == "OpenSSH" else lines_of(200))
    assert set(log.train) <= usual
    for part in (log.validate, log.test):
        assert {line.text for line in part if line.kind is None} <= usual
        assert not {line.text for line in part if line.kind} & usual
        assert 0 < sum(line.kind is not None for line in part) < len(part) / 2
    assert planted(library, name) == log


def test_every_kind_of_odd_line_is_planted() -> None:
    chance = random.Random(1)
    usual, foreign = lines_of(400), "Jan 1 00:00:00 host program: another message of its own"
    kinds = [plant(line, foreign, chance) for line in usual]
    assert {kind for kind, _ in kinds} == {*KINDS, DAMAGED}
    assert all(planted != line for line, (_, planted) in zip(usual, kinds, strict=True))
    assert plant("x", "y", chance)[1] != "x"


def test_what_lacks_is_fetched_and_checked(tmp_path: Path) -> None:
    data = b"one\ntwo\n"
    source = Source(sources.LOGHUB, "X/X.log", hashlib.sha256(data).hexdigest())
    remote = tmp_path / "mirror" / source.repository.name / source.repository.commit / source.path
    library = Library(tmp_path / "data", (tmp_path / "mirror").as_uri())
    with pytest.raises(MissingData) as missing:
        library.lines(source)
    for word in ("X/X.log", "logpai/loghub", sources.LOGHUB.commit[:12], str(tmp_path / "data" / "logpai" / "loghub")):
        assert word in str(missing.value)
    remote.parent.mkdir(parents=True)
    remote.write_bytes(b"another")
    with pytest.raises(MissingData, match="not the file that was expected"):
        library.lines(source)
    remote.write_bytes(data)
    assert library.lines(source) == ["one", "two"]
    remote.unlink()
    assert library.lines(source) == ["one", "two"]
    assert library.notes == []


@pytest.mark.parametrize("discount", [0.5, 0.9])
def test_the_probabilities_of_the_5_gram_sum_to_one(discount: float) -> None:
    train = lines_of(60)
    grams = CharacterGrams(train, discount)
    known = {character for line in train for character in line} | {"\n"}
    for context in ("\x02\x02\x02\x02", "Nov ", "sshd", "????", "d[12", "\x02\x02\x02é"):
        total = sum(grams.probability(context, character) for character in [*known, "unseen"])
        assert total == pytest.approx(1)
    seen, damaged = train[0], train[0][:30] + "~" + train[0][31:]
    scores = grams.scores([seen, damaged])
    assert scores[HIGHEST][1] > scores[HIGHEST][0]


def test_lines_are_ranked_and_alarms_counted() -> None:
    odd = np.array([True, False, True, False, False])
    ranking = np.array([3.0, 2.0, 1.0, 0.0, 0.5])
    assert precision_at(odd, ranking, 2) == 0.5
    assert found_at(odd, ranking, 0) == 0.5
    assert found_at(odd, ranking, 0.4) == 1
    assert threshold(ranking[~odd], 0.4) == 0.5
    assert list(is_odd(made(1, 20).test)) == [line.kind is not None for line in made(1, 20).test]


def test_the_readme_has_the_table_of_every_log_but_the_made_one() -> None:
    rows = PAGE.split(HEAD)[1].split("\n\n")[0].strip().splitlines()
    assert [re.split(r"[|:]", row)[1].strip() for row in rows] == list(LOGS)
    for source in (sources.HDFS_TRAIN, sources.HDFS_TEST, loghub("BGL")):
        assert f"`{source.repository.name}`" in PAGE
        assert source.repository.commit[:12] in PAGE


@pytest.mark.examples
def test_validation_chooses_and_a_lead_has_its_interval() -> None:
    odd = np.arange(40) % 4 == 0
    right, wrong = odd + np.linspace(0, 0.5, 40), -1.0 * odd
    best = best_on_validation(odd, odd, {"wrong": (wrong, wrong), "right": (right, right)})
    assert (best.setting, best.auroc, best.validation) == ("right", 1, 1)
    assert lead(odd, right, wrong) == pytest.approx((1, 1))
    assert lead(odd, right, right) == (0, 0)


@pytest.mark.examples
@pytest.mark.timeout(300)  # seconds of a core, which a busy machine may have to share
def test_in_miniature(tmp_path: Path) -> None:
    """A log from its lines to the table, then one that grows."""
    runner = CliRunner(env={"COLUMNS": "200"})
    out = ["--out", str(tmp_path / "out")]
    found = runner.invoke(program, [*out, "--only", "made", "--quick"])
    assert found.exit_code == 0, found.output
    row = re.search(r"^\| made: .*? \| 600 \| 200, (\d+) \| \*\*([\d.]+), (\d+)\*\* \| ([\d.]+), ", found.stdout, re.M)
    assert row, found.stdout
    assert int(row[1]) / 200 < int(row[3]) / 100  # the odd ones come first
    assert float(row[2]) > 0.7
    assert "Unroll highest character (" in found.stdout
    out = ["--out", str(tmp_path / "out" / "quick")]
    seen = runner.invoke(program, ["live", *out, "--lines", "60", "--pause", "0.01"])
    assert seen.exit_code == 0, seen.output
    last = re.search(r"60 lines, (\d+) of them odd: (\d+) shown, the latest after ([\d.]+) seconds", seen.stdout)
    assert last, seen.stdout
    assert 0 < int(last[2]) <= int(last[1])


@pytest.mark.parametrize(
    "words", [["--only", "nothing"], ["live", "--out", "nowhere"], ["plantings", "--out", "nowhere"]]
)
def test_what_cannot_be_done_is_said(words: list[str]) -> None:
    done = CliRunner(env={"COLUMNS": "200"}).invoke(program, words)
    assert done.exit_code == 2
    assert re.search(r"choose of HDFS, BGL|--only (made|Thunderbird)` first", done.output)
