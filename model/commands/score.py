"""The verb `unroll score`: how odd each line of a file, or of a pipe, is to a model."""

import heapq
import json
import sys
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import chain, repeat
from pathlib import Path
from typing import Any, Literal, NamedTuple

import typer

from model.command_line.from_options import command_of
from model.command_line.options import option
from model.command_line.terminal import counted, drop_output, for_terminal, json_for_terminal, shell_word
from model.commands.common import (
    INTERRUPTED,
    MOST_BYTES,
    RAY,
    check_ray,
    note,
    note_nodes,
    refuse,
    refuse_unusable,
)
from model.errors import ParameterError, UnrollError
from model.memory import DEFAULT_MOST_BYTES, HELP, LoadLimit

STANDARD_INPUT = "-"
FAILED = 2  # the exit code after an error, as grep has it: 1 says that no line was shown
ODD, ODDEST = 5.0, 10.0  # bits of a character from which on it is coloured: one in 32, one in 1,024


class Place(NamedTuple):
    """Where a line stands: in which file, and as which line of it, from 1."""

    file: str
    line: int


@dataclass(frozen=True, kw_only=True)
class ScoreOptions:
    """Every option of `unroll score`, each said once."""

    paths: tuple[str, ...] = option(
        (),
        "A checkpoint folder, the bundled one without; then files to score, - for standard input.",
        metavar="[CHECKPOINT] FILE… | -",
        argument=True,
        typer={"show_default": False},
    )
    top: int | None = option(None, "Only the oddest lines, this many, the oddest first.", shown="all", typer={"min": 1})
    threshold: float | None = option(
        None,
        "Only lines from this percentile on, or from these bits; the exit code is 1 where there is none.",
        shown="none",
        typer={"min": 0, "max": 100},
    )
    by: Literal["percentile", "highest"] = option(
        "percentile", "What --top and --threshold go by: percentile, or highest, the bits of the oddest character."
    )
    form: Literal["tsv", "jsonl"] = option("tsv", "Of a line of the output.", flag="--format")
    before: str = option("", "Text that every line follows; escapes such as \\n are read.", flag="--context")
    ends: bool = option(
        False, "Score the end of each line as one more character, so that a line cut short is odd.", flag="--ends"
    )
    memory: Literal["line", "file"] | None = option(
        None,
        "Read with the online memory, which holds the line itself, or all lines before in its file, too.",
        shown="none",
        flag="--memory",
    )
    show: bool = option(False, "Colour the characters that surprised.", flag="--show")
    arithmetic: Literal["int8", "fp32"] = option("int8", "Products in 8-bit integers, or in 32-bit floats.")
    threads: int | None = option(None, "Threads.", shown="one a core", typer={"min": 1})
    ray: str | None = option(None, f"Score on {RAY}", metavar="[ADDRESS]", shown="none")
    max_model_bytes: int = option(DEFAULT_MOST_BYTES, HELP, typer=MOST_BYTES)


def _score(_: typer.Context, options: ScoreOptions) -> None:
    """Score lines: the bits of each, its bits per character, and its percentile among held-out passages.

    The columns are: file (where there are several), line, bits, bits per character, percentile (or highest, as --by
    says), text. The exit code is 2 after an error.

    Examples:

      unroll score runs/log/best today.log --top 20

      tail -f app.log | unroll score runs/log/best - --threshold 99

      tail -f app.log | unroll score runs/log/best - --ends --by highest --threshold 12

      unroll score runs/log/best *.log --format jsonl > scores.jsonl

      unroll score runs/log/best *.log --ray 10.0.0.1:6379 > scores.tsv
    """
    try:
        found = score_files(options)
    except UnrollError as error:
        refuse(str(error), FAILED)
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
    except BrokenPipeError:
        drop_output()
        return
    except OSError as error:
        refuse_unusable(error, FAILED)
    if options.threshold is not None and not found:
        raise typer.Exit(1)


score = command_of(ScoreOptions, _score)


def score_files(options: ScoreOptions) -> int:
    """Score all lines; how many were shown."""
    check_ray(options.ray, options.threads)
    if options.ray is not None and options.memory == "file":
        raise ParameterError(
            "ray", "--memory file reads one line after the other; leave out --ray, or choose --memory line."
        )
    folder, files = which(options.paths)
    scorer = FileScorer(folder, files, options)
    output = Output(options, len(files) > 1)
    if output.threshold is not None and options.by == "percentile" and scorer.held_out is None:
        raise ParameterError(
            "threshold",
            "The checkpoint has no held-out passages to compare with; measure them with "
            "`unroll evaluate CHECKPOINT CORPUS --write-surprise`.",
        )
    with closing(scorer.scores()) as scores:
        for place, line in scores:
            if line is None:
                output.flush()
            else:
                output.take(place, line)
    output.end()
    return output.shown


def which(paths: Sequence[str]) -> tuple[Path | None, Sequence[str]]:
    """The checkpoint, a folder that comes first, and the files. Raises ParameterError where there is no file."""
    first = Path(paths[0]) if paths else None
    folder = first if first is not None and first.is_dir() else None
    files = paths[1:] if folder is not None else paths
    if not files:
        taken = "" if folder is None else f" after the checkpoint folder {shell_word(folder)}"
        raise ParameterError("file", f"There is nothing to score{taken}; name files, or - for standard input.")
    return folder, files


class FileScorer:
    """Scores the lines of files, one file after the other."""

    def __init__(self, folder: Path | None, files: Sequence[str], options: ScoreOptions) -> None:
        from model.checkpoint import named_checkpoint, read
        from model.held_out_surprise import HeldOutSurprise
        from model.online_memory.weights import MemoryWeights
        from model.text.escapes import unescaped

        limit = LoadLimit(most_bytes=options.max_model_bytes, arithmetic=options.arithmetic)
        stored = read(named_checkpoint(folder), limit)
        if stored.note:
            note(stored.note)
        self.files = files
        self.held_out = HeldOutSurprise.of(stored.checkpoint.training)
        memory = None
        if options.memory:
            memory = MemoryWeights.required(stored.checkpoint.training, stored.checkpoint.tokenizer.frame.items)
        if memory is not None and self.held_out is not None:
            note("Lines are read with the online memory, the held-out passages that percentiles speak of without.")
        self._checkpoint, self._arithmetic, self._ray = stored.checkpoint, options.arithmetic, options.ray
        self._settings: dict[str, Any] = {
            "context": unescaped(options.before),
            "surprises": options.show,
            "highest": options.by == "highest",
            "ends": options.ends,
            "memory": memory,
        }
        self._here: dict[str, Any] = {"remembers": options.memory or "line", "threads": options.threads}

    def scores(self) -> Generator[tuple[Place, Any]]:
        """Each line's place and score; None for a score where nothing may come for a while."""
        return self._scores_here() if self._ray is None else self._scores_on(self._ray)

    def _scores_here(self) -> Generator[tuple[Place, Any]]:
        from model.bulk.score import LineScorer
        from model.decoding.decoder import Decoder

        decoder, tokenizer = Decoder(self._checkpoint, self._arithmetic), self._checkpoint.tokenizer
        with LineScorer(decoder, tokenizer, self.held_out, **self._settings, **self._here) as scorer:
            for name in self.files:
                number = 0
                for line in scorer.score(self._blocks(name)):
                    number += line is not None
                    yield Place(name, number), line

    def _scores_on(self, address: str) -> Generator[tuple[Place, Any]]:
        """The same from a cluster, which has blocks of several files at a time."""
        from model.cluster.line_blocks import LineCluster, LineSettings

        sent: deque[Iterator[Place]] = deque()  # the places of the lines of each block

        def blocks() -> Iterator[list[str] | None]:
            for name in self.files:
                number = 1
                for block in self._blocks(name):
                    if block is not None:
                        sent.append(map(Place, repeat(name), range(number, number + len(block))))
                        number += len(block)
                    yield block

        settings, place = LineSettings(**self._settings), Place("", 0)
        with LineCluster(address, self._checkpoint, self._arithmetic, settings) as cluster:
            places = chain.from_iterable(sent.popleft() for _ in repeat(None))
            for line in cluster.score(blocks()):
                if line is not None:
                    place = next(places)
                yield place, line
        note_nodes(cluster.nodes)

    def _blocks(self, name: str) -> Iterator[list[str] | None]:
        """The lines of a file in blocks; None where the next may not come for a while."""
        from model.bulk.score import LineReader

        file = sys.stdin.buffer if name == STANDARD_INPUT else Path(name).open("rb")  # noqa: SIM115
        with file:
            reader = LineReader(file.fileno(), name)
            yield from reader.blocks()
        if reader.replaced:
            verb = "is" if reader.replaced == 1 else "are"
            lines = f"{counted(reader.replaced, 'line')} that {verb} not UTF-8"
            note(f"{name} has {lines}; the bytes were read as U+FFFD.")


class Output:
    """Writes lines with their scores to standard output, all or the oddest, at once or at the end."""

    def __init__(self, options: ScoreOptions, with_file: bool) -> None:
        from model.command_line.console import TerminalConsole

        self.threshold, self.shown, self._by = options.threshold, 0, options.by
        self._json, self._top, self._with_file = options.form == "jsonl", options.top, with_file
        self._oddest: list[tuple[tuple[float, float], int, Place, Any]] = []
        self._taken = 0
        self._stdout = sys.stdout  # while a cluster works, it is where Ray may print
        self._terminal = self._stdout.isatty()
        self._console = TerminalConsole(file=self._stdout) if options.show else None

    def take(self, place: Place, line: Any) -> None:
        """Take the next line."""
        from model.bulk.score import oddness

        value = getattr(line, self._by)
        if self.threshold is not None and (value is None or value < self.threshold):
            return
        if self._top is None:
            self._write(place, line)
            return
        self._taken += 1  # of lines that are equally odd, the first counts as odder
        entry = (oddness(line), -self._taken, place, line)
        if len(self._oddest) < self._top:
            heapq.heappush(self._oddest, entry)
        else:
            heapq.heappushpop(self._oddest, entry)

    def flush(self) -> None:
        """Hand what was written to the reader at once."""
        self._stdout.flush()

    def end(self) -> None:
        """Write what waits for the end."""
        for *_, place, line in sorted(self._oddest, reverse=True):
            self._write(place, line)
        self.flush()

    def _write(self, place: Place, line: Any) -> None:
        self.shown += 1
        if self._json:
            self._stdout.buffer.write(self._object(place, line))
            return
        numbers = [f"{line.bits:.3f}", _number(line.bits_per_character), _number(getattr(line, self._by))]
        before = "\t".join([*([place.file] if self._with_file else []), str(place.line), *numbers, ""])
        if self._console is not None:
            self._console.print(self._coloured(before, line), soft_wrap=True)
        elif self._terminal:
            self._stdout.buffer.write(for_terminal(f"{before}{line.text}\n").encode())
        else:
            self._stdout.buffer.write(f"{before}{line.text}\n".encode())

    def _object(self, place: Place, line: Any) -> bytes:
        values = {**place._asdict(), **line._asdict()}
        surprises = values.pop("surprises")
        if self._by != "highest":
            del values["highest"]
        if surprises is not None:
            values["surprises"] = surprises.tolist()
        return f"{json_for_terminal(json.dumps(values, ensure_ascii=False))}\n".encode()

    def _coloured(self, before: str, line: Any) -> Any:
        from rich.text import Text

        shown = Text(before)
        for character, bits in zip(line.text, line.surprises.tolist(), strict=True):
            shown.append(character, "bold red" if bits >= ODDEST else "yellow" if bits >= ODD else "")
        return shown


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
