"""Logs as sets: lines to learn what is usual from, lines to tune on, and lines to rank, with what is odd among them."""

import csv
import hashlib
import random
import re
import string
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from examples.logs.planting import plant
from examples.logs.sources import HDFS_ABNORMAL, HDFS_TEST, HDFS_TRAIN, HDFS_VALIDATE, Library, loghub
from examples.logs.ssh_log import Log
from examples.running import RecipeError

FOREIGN = {"Thunderbird": "BGL", "OpenSSH": "Thunderbird", "Linux": "BGL"}
"""Logs that odd lines are planted in, each with the log that its lines of another program are from."""
LETTERS = string.ascii_uppercase + string.ascii_lowercase
EVENTS = re.compile(r"\s*(?:(?:[1-9]|[1-4]\d|5[0-2])(?:\s+|$))*", re.ASCII)
LEARNT, TUNED = 50, 15  # percent of a log's lines; the rest is ranked
PLANTED_ONE_IN = 4  # of the lines to tune on and to rank


class Line(NamedTuple):
    """A line, or a session written as one. kind: what is odd about it, None where nothing is."""

    text: str
    kind: str | None = None


@dataclass(frozen=True)
class LogSet:
    """One log. about: in words, what its lines are and which are odd."""

    name: str
    about: str
    train: list[str]
    validate: list[Line]
    test: list[Line]


def percent_of(number: int, text: str) -> int:
    """From 0 to 99, by which the line of this number in its file is in a part; the same on every machine."""
    return int.from_bytes(hashlib.sha256(f"{number} {text}".encode()).digest()) % 100


def letters(session: str) -> str:
    """A session as DeepLog writes it, "5 5 22", with a letter for each event: "EEV". Raises RecipeError for another."""
    if not EVENTS.fullmatch(session):
        raise RecipeError(
            f"A session of HDFS is numbers of events from 1 to 52, such as 5 5 22; this is none: {session[:60]!r}."
        )
    return "".join(LETTERS[int(event) - 1] for event in session.split())


def hdfs(library: Library) -> LogSet:
    """DeepLog's sessions of HDFS: blocks, each with the events that happened to it."""
    abnormal = [letters(session) for session in library.lines(HDFS_ABNORMAL)]
    tuned = [percent_of(number, session) < 10 for number, session in enumerate(abnormal)]
    odd = [Line(session, "abnormal") for session in abnormal]
    return LogSet(
        "HDFS",
        "sessions of blocks, abnormal as labelled",
        [letters(session) for session in library.lines(HDFS_TRAIN)],
        [*_normal(library.lines(HDFS_VALIDATE)), *(line for line, here in zip(odd, tuned, strict=True) if here)],
        [*_normal(library.lines(HDFS_TEST)), *(line for line, here in zip(odd, tuned, strict=True) if not here)],
    )


def _normal(table: Iterable[str]) -> list[Line]:
    """The normal sessions of a table with the columns Sequence and label. Raises RecipeError where it lacks these."""
    rows = csv.DictReader(table)
    if not {"Sequence", "label"} <= set(rows.fieldnames or ()):
        raise RecipeError("A table of HDFS's sessions has no columns Sequence and label; get the right file.")
    return [Line(letters(row["Sequence"])) for row in rows if row["label"] == "0"]


def labelled(library: Library, name: str = "BGL") -> LogSet:
    """A log whose lines begin with "-", or with the name of an alert, which nobody is shown."""
    parts: dict[str, list[Line]] = {"train": [], "validate": [], "test": []}
    for number, line in enumerate(library.lines(loghub(name))):
        label, _, text = line.partition(" ")
        part = _part(percent_of(number, text))
        if label == "-":
            parts[part].append(Line(text))
        else:
            parts["validate" if part == "validate" or (part == "train" and number % 2) else "test"].append(
                Line(text, "alert")
            )
    return LogSet(
        name, "lines, alerts as labelled", [line.text for line in parts["train"]], parts["validate"], parts["test"]
    )


def planted(library: Library, name: str, seed: int = 1) -> LogSet:
    """A log in which one line in four of those to tune on and to rank is made odd."""
    chance = random.Random(seed)
    foreign = library.lines(loghub(FOREIGN[name]))
    parts: dict[str, list[Line]] = {"train": [], "validate": [], "test": []}
    for number, line in enumerate(library.lines(loghub(name))):
        text = line.partition(" ")[2] if name == "Thunderbird" else line  # without its label, "-" in every line
        part = _part(percent_of(number, text))
        kind = None
        if part != "train" and chance.randrange(PLANTED_ONE_IN) == 0:
            kind, text = plant(text, chance.choice(foreign), chance)
        parts[part].append(Line(text, kind))
    return LogSet(
        name, "lines, odd ones planted", [line.text for line in parts["train"]], parts["validate"], parts["test"]
    )


def made(learnt: int, ranked: int, seed: int = 1) -> LogSet:
    """A log of an SSH server that is made here, with odd lines among those to tune on and to rank."""
    log = Log(seed)
    train = [log.line() for _ in range(learnt)]

    def mixed(count: int) -> list[Line]:
        found = []
        for _ in range(count):
            if log.chance.randrange(PLANTED_ONE_IN):
                found.append(Line(log.line()))
            else:
                kind, text = log.anomaly()
                found.append(Line(text, kind))
        return found

    return LogSet("made", "lines of a made SSH log, odd ones planted", train, mixed(ranked // 2), mixed(ranked))


def _part(percent: int) -> str:
    if percent < LEARNT:
        return "train"
    return "validate" if percent < LEARNT + TUNED else "test"
