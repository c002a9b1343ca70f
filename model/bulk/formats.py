"""How a list of items is written, one a line, and read back: as text, JSON lines or CSV."""

import csv
import io
import json
from collections.abc import Iterator
from typing import IO, Literal

from model.bulk.drawing import Item
from model.command_line.terminal import json_for_terminal

Format = Literal["text", "jsonl", "csv"]
COLUMNS = ("index", "text", "finish_reason")


def header(form: Format) -> bytes:
    """What stands before the first item."""
    return _row(COLUMNS) if form == "csv" else b""


def written(item: Item, form: Format) -> bytes:
    """An item on its line. In a list as text, a line break inside an item is written as \\n; CSV quotes it."""
    if form == "text":
        return f"{as_line(item.text)}\n".encode()
    values = (item.number, item.text, item.finish_reason)
    if form == "csv":
        return _row(values)
    return f"{json_for_terminal(json.dumps(dict(zip(COLUMNS, values, strict=True)), ensure_ascii=False))}\n".encode()


def as_line(text: str) -> str:
    """A text on one line."""
    return text.replace("\n", "\\n")


def read_lines(file: IO[bytes], form: Format) -> Iterator[str]:
    """The items that were written, each as `as_line` has it."""
    lines = io.TextIOWrapper(file, "utf-8", newline="" if form == "csv" else "\n")
    try:
        if form == "csv":
            rows = csv.reader(lines)
            next(rows, None)
            yield from (as_line(row[1]) for row in rows)
        elif form == "jsonl":
            yield from (as_line(json.loads(line)["text"]) for line in lines)
        else:
            yield from (line.removesuffix("\n") for line in lines)
    finally:
        lines.detach()


def _row(values: tuple[object, ...]) -> bytes:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(values)
    return line.getvalue().encode()
