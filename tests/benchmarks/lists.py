"""Lists: bits of items when a list comes sorted, as it is or shuffled, and how many of the items drawn are whole."""

import json
import os
import random
import re
import tempfile
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import unroll
from model.bulk.drawing import ItemRequest
from model.bulk.generate import drawn_items
from model.checkpoint import Checkpoint, load
from model.decoding.decoder import Decoder
from model.sampling.parameters import SamplingParameters
from model.text.frame import START
from tests.benchmarks.figures import Figure
from training.evaluation.memorisation import draw
from training.evaluation.protocols import alone
from training.evaluation.readers import Reader, decoder_reader

CORPORA = Path(os.environ.get("BENCHMARK_LISTS", Path(__file__).parents[3] / "shared" / "corpora"))
PASSES, WHOLE_PASSES = 4.0, 20.0  # over names, and where the share of whole items is asked for
MOST_BITS = 2.95  # of names alone, in any order
DRAWN = 400  # items of a share
PAIRS = 4_000  # of sentences, drawn from all
CHARACTERS = 20_000  # of the long text whose lines' first letters are compared

IsWhole = Callable[[str], bool]


def measure() -> list[Figure]:
    """The order of names, and whole items of three lists; nothing where the corpora are not there."""
    if not (CORPORA / "names.txt").is_file():
        return []
    with tempfile.TemporaryDirectory() as folder:
        return [*_order(Path(folder)), *_whole(Path(folder))]


def _order(folder: Path) -> list[Figure]:
    """What one long text and items learn of names that are sorted, as they come, and shuffled."""
    names = (CORPORA / "names.txt").read_text("utf-8").splitlines()
    orders = {
        "sorted": sorted(names),
        "as they come": names,
        "shuffled": random.Random(1).sample(names, len(names)),
    }
    figures = []
    for order, lines in orders.items():
        text = _trained(lines, folder / f"{order} text", items=False, epochs=PASSES)
        items = _trained(lines, folder / f"{order} items", items=True, epochs=PASSES)
        letters = [line[:1] for line in text.tokenizer.decode(draw(Decoder(text), text.tokenizer, CHARACTERS)).split()]
        same = np.mean([one == other for one, other in pairwise(letters)])
        chance = sum((count / len(letters)) ** 2 for count in Counter(letters).values())
        about = f"names {order}, one long text"
        found = [
            (f"{about}: carried", text.training["figures"]["test"]["bits_per_character"], "bits", None),
            (f"{about}: each line alone", _each_alone(text, lines), "bits", None),
            (f"{about}: first letter of the line before", 100 * float(same), "%", None),
            (f"{about}: the same by chance", 100 * chance, "%", None),
            (f"names {order}, --items", items.training["figures"]["test"]["bits_per_character"], "bits", MOST_BITS),
        ]
        figures += [Figure(name, value, unit, target, "most") for name, value, unit, target in found]
    return figures


def _whole(folder: Path) -> list[Figure]:
    """How many of the items drawn from an empty prompt are whole, with and without --items."""
    events = (CORPORA / "events.jsonl").read_text("utf-8").splitlines()
    names = (CORPORA / "names.txt").read_text("utf-8").splitlines()
    pairs = random.Random(1).sample((CORPORA / "fra-eng.txt").read_text("utf-8").splitlines(), PAIRS)
    keys = {tuple(json.loads(line)) for line in events}

    def is_event(text: str) -> bool:
        try:
            value = json.loads(text)
        except ValueError:
            return False
        return isinstance(value, dict) and tuple(value) in keys

    lists: list[tuple[str, list[str], IsWhole, tuple[float | None, float | None]]] = [
        ("JSON lines", events, is_event, (95.0, 99.0)),
        ("names", names, lambda text: re.fullmatch("[a-z]{2,15}", text) is not None, (None, None)),
        ("French pairs", pairs, lambda text: re.fullmatch(r"[^\t]+[.!?…»\"]\t[^\t]+", text) is not None, (None, None)),
    ]
    figures = []
    for name, lines, is_whole, targets in lists:
        for items, target in zip((False, True), targets, strict=True):
            model = _trained(lines, folder / f"{name} {items}", items, WHOLE_PASSES if len(lines) < 10_000 else PASSES)
            how = "--items" if items else "one long text"
            figures.append(Figure(f"whole {name}, {how}", _share(model, is_whole), f"% of {DRAWN}", target))
    return figures


def _trained(lines: list[str], folder: Path, items: bool, epochs: float) -> Checkpoint:
    """The best model of some lines, of one layer of 128."""
    folder.mkdir()
    (folder / "list.txt").write_text("".join(line + "\n" for line in lines), "utf-8")
    unroll.train(
        folder / "list.txt", out=folder / "run", quiet=True, items=items, epochs=epochs, layers=1, hidden=128, threads=1
    )
    return load(folder / "run" / "best")


def _each_alone(model: Checkpoint, lines: list[str]) -> float:
    """Bits per character of the last twentieth of the lines, which is the test part, each after a line break alone."""
    text = "".join(line + "\n" for line in lines[-len(lines) // 20 :])
    read = _after_line_break(decoder_reader(Decoder(model, "fp32")), model.tokenizer.start_id)
    ids = model.tokenizer.encode(text)
    return alone(read, ids, model.tokenizer.encode("\n").tolist()).bits_per_character


def _after_line_break(read: Reader, start_id: int) -> Reader:
    """The reader of a model without items: an item begins after a line break."""

    def of_lines(inputs: NDArray[np.int64], targets: NDArray[np.int64], state: Any) -> tuple[float, Any]:
        return read(np.where(inputs == START, start_id, inputs), targets, state)

    return of_lines


def _share(model: Checkpoint, is_whole: IsWhole) -> float:
    """Of the items drawn from an empty prompt, in percent, those that end by themselves and are whole."""
    stop = [] if model.tokenizer.frame.items else ["\n"]
    request = ItemRequest(prompt="", parameters=SamplingParameters(seed=1, temperature=0.8), max_tokens=500, stop=stop)
    with drawn_items(Decoder(model), model.tokenizer, request, end=DRAWN) as drawn:
        return 100 * float(np.mean([item.finish_reason == "stop" and is_whole(item.text) for item in drawn]))
