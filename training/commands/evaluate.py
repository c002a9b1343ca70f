"""The verb `unroll evaluate`."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import typer
from rich.table import Table

from model.command_line.console import TerminalConsole
from model.command_line.from_options import command_of
from model.command_line.options import former_flags, option
from model.commands.common import JSON, MOST_BYTES, note
from model.errors import CorpusError, ParameterError
from model.memory import DEFAULT_MOST_BYTES, HELP, LoadLimit
from training.commands.shared import TextOptions, require

if TYPE_CHECKING:
    from model.checkpoint import Checkpoint
    from model.online_memory.weights import MemoryWeights
    from model.text.utf8_ids import Ids
    from training.data.corpus import Corpus
    from training.evaluation.online_memory import Distribute
    from training.evaluation.readers import Reader
    from training.evaluation.score import Score
    from training.monitoring.scoring_bar import ScoringBar

ReaderName = Literal["network", "fp32", "int8"]


class Protocol(StrEnum):
    """How a text is read to be scored."""

    CARRIED = "carried"
    COLD = "cold"
    DYNAMIC = "dynamic"
    ALONE = "alone"
    ALL = "all"


MEANINGS = {
    "carried": "one pass, the state carried on from character to character",
    "cold": "every window begins with an empty state, as nanoGPT measures",
    "alone": "the end of each item counts as well",
    "dynamic": "one pass, in which a copy goes on learning from what it has predicted",
    "tempered": "the logits divided by the fitted temperature",
}
READERS = {"network": "PyTorch", "fp32": "fp32 decoder", "int8": "int8 decoder"}

PROTOCOLS = (Protocol.CARRIED, Protocol.COLD, Protocol.DYNAMIC)


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """Every option of `unroll evaluate`, each said once."""

    source: TextOptions
    protocol: tuple[Protocol, ...] = option(
        (),
        "carried: one pass, the state carried. cold: random windows of 256, each from a zero state, as nanoGPT does. "
        "dynamic: a copy goes on learning from what it has predicted. alone: each item of a list by itself, as a "
        "checkpoint of items is measured. Name several by repeating.",
        shown="carried, or alone",
    )
    reader: ReaderName = option("network", "The PyTorch network, or the CPU decoder in fp32 or int8 as it is served.")
    batch_size: int | None = option(
        None,
        "Sequences read in parallel, each from a zero state.",
        shown="one per 16,384 ids, for dynamic one per 65,536",
        former=("lanes",),
        typer={"min": 1},
    )
    windows: int = option(200 * 64, "Cold windows drawn from each part.", typer={"min": 1})
    threads: int | None = option(
        None, "Threads of the network's reader.", shown="one a core", typer={"min": 1, "max": 256}
    )
    fit_temperature: bool = option(
        False,
        "Also fit the softmax temperature on the validation part, and score with it.",
        flag="--fit-temperature",
    )
    memory: bool = option(
        False,
        "Also remember what followed the last characters before, with the online memory; carried and dynamic alone.",
        flag="--memory",
    )
    as_json: bool = option(False, JSON, flag="--json")
    write_surprise: bool = option(
        False,
        "Also measure how surprising passages of the validation part are, and keep that in the checkpoint, as a "
        "training run does: what the service holds other texts against.",
        flag="--write-surprise",
    )
    write_memory: bool = option(
        False,
        "First fit the weights of the online memory on the validation part, and keep them in the checkpoint, as a "
        "training run does.",
        flag="--write-memory",
    )
    max_model_bytes: int = option(DEFAULT_MOST_BYTES, HELP, typer=MOST_BYTES)


FORMER_FLAGS = former_flags(EvaluateOptions)
"""The flag of today for a former one, still understood and shown nowhere."""


def _evaluate(_: typer.Context, options: EvaluateOptions) -> None:
    """Measure bits and nats per character of a text, by three protocols.

    Examples:

      unroll evaluate runs/book/best other-book.txt

      unroll evaluate runs/book/best book.txt --split 90/5/5 --json

      unroll evaluate runs/book/best book.txt --split 90/5/5 --reader int8

      unroll evaluate runs/book/best book.txt --split 90/5/5 --protocol all

      unroll evaluate runs/book/best book.txt --split 90/5/5 --write-surprise

      unroll evaluate runs/book/best book.txt --split 90/5/5 --reader int8 --memory

      unroll evaluate runs/names/best names.txt --split 90/5/5
    """
    split = options.source.split
    _check(options)
    if options.reader == "network" or options.fit_temperature:
        require("torch")
    from model.checkpoint import named_checkpoint, read
    from training.allocator import keep_buffers
    from training.monitoring.scoring_bar import ScoringBar

    keep_buffers()
    checkpoint = named_checkpoint(options.source.checkpoint)
    arithmetic: Literal["int8", "fp32"] = "int8" if options.reader == "int8" else "fp32"
    stored = read(checkpoint, LoadLimit(most_bytes=options.max_model_bytes, arithmetic=arithmetic))
    if stored.note:
        note(stored.note)
    model = stored.checkpoint
    wanted = _wanted(model, options.protocol)
    text = options.source.open(model.tokenizer.frame)
    parts = _parts(model, text, split)
    weights = _memory(checkpoint, model, parts, options)
    with ScoringBar(TerminalConsole(stderr=True)) as bar:
        how = _Evaluation(model, parts, options, bar, wanted[0], weights)
        scores = {name: how.scores(name) for name in wanted}
        tempered = how.tempered() if options.fit_temperature else None
    line = _write_surprise(checkpoint, parts["validation"]) if options.write_surprise else None
    if options.as_json:
        typer.echo(json.dumps({"split": split, "reader": options.reader, **_to_json(scores, tempered)}))
        return
    shown = {str(name): found for name, found in scores.items()} | ({"tempered": tempered[1]} if tempered else {})
    _show(TerminalConsole(), shown, options.reader)
    if line is not None:
        TerminalConsole().say(f"{line}\nKept in {checkpoint}.")


evaluate = command_of(EvaluateOptions, _evaluate)


def _write_surprise(checkpoint: Path, validation: "Ids") -> str:
    """Keep in a checkpoint how surprising passages of the validation part are; what its card says of it."""
    from training.report.card import card_line, rewrite

    return card_line(rewrite(checkpoint, validation))


def _memory(
    checkpoint: Path, model: "Checkpoint", parts: "dict[str, Ids]", options: EvaluateOptions
) -> "MemoryWeights | None":
    """The weights of the memory to read with, written first where that is asked for; None to read without one."""
    from model.online_memory.weights import MemoryWeights

    written = None
    if options.write_memory:
        from training.report.card import rewrite_memory

        written = rewrite_memory(checkpoint, parts["validation"])
    if not options.memory:
        return None
    return written or MemoryWeights.required(model.training, model.tokenizer.frame.items)


def _check(options: EvaluateOptions) -> None:
    """Refuse what needs a validation part that was not named, or a network that can learn."""
    dynamic = Protocol.DYNAMIC in options.protocol or Protocol.ALL in options.protocol
    if options.source.split == "whole":
        needs = {
            "--write-surprise needs the validation part": options.write_surprise,
            "--write-memory needs the validation part": options.write_memory,
            "--fit-temperature needs the validation part": options.fit_temperature,
            "Dynamic evaluation needs the train part, for the usual size of gradients, and the validation part, to "
            "choose its rate and decay": dynamic,
        }
        for need, asked in needs.items():
            if asked:
                raise ParameterError("split", f"{need}; name the --split the model was trained with.")
    if options.memory and (set(options.protocol) - {Protocol.CARRIED, Protocol.DYNAMIC} or options.fit_temperature):
        raise ParameterError(
            "memory",
            "The online memory is measured with the state carried, or with dynamic evaluation, at the temperature the "
            "checkpoint has; choose --protocol carried --protocol dynamic, and leave out --fit-temperature.",
        )
    if options.reader != "network" and dynamic:
        raise ParameterError(
            "reader",
            "Dynamic evaluation trains a copy of the network, which the CPU decoder cannot; leave out --reader, or "
            "choose --protocol carried --protocol cold.",
        )
    if options.reader != "network" and (options.threads or 1) > 1:
        raise ParameterError("threads", f"--reader {options.reader} has one thread; leave out --threads, or --reader.")


def _wanted(model: "Checkpoint", chosen: tuple[Protocol, ...]) -> list[Protocol]:
    """The protocols to measure by, in their order. Raises ParameterError on one that the checkpoint's texts lack."""
    if model.tokenizer.frame.items:
        if others := set(chosen) - {Protocol.ALONE, Protocol.ALL}:
            raise ParameterError(
                "protocol",
                f"The checkpoint writes items, which are measured alone and not {', '.join(sorted(others))}; leave out "
                "--protocol.",
            )
        return [Protocol.ALONE]
    if Protocol.ALONE in chosen:
        raise ParameterError(
            "protocol", "The checkpoint learnt one long text, without items; leave out --protocol alone."
        )
    chosen = chosen or (Protocol.CARRIED,)
    return [name for name in PROTOCOLS if name in chosen or Protocol.ALL in chosen]


def _parts(model: "Checkpoint", corpus: "Corpus", split: str) -> "dict[str, Ids]":
    """The parts of a corpus as ids by name: whole; or train, validation and test."""
    from model.text.utf8_ids import count_characters
    from training.data.split import split as cut

    ids = corpus.encode(model.tokenizer)
    if model.tokenizer.frame.items:
        return _parts_of_items(model, ids, split)
    if count_characters(ids) < 2:
        raise CorpusError("The text has fewer than two characters, so there is nothing to predict; name a longer one.")
    if split == "whole":
        return {"whole": ids}
    pieces = cut(ids, split)
    return {"train": pieces.train, "validation": pieces.validation, "test": pieces.test}


def _parts_of_items(model: "Checkpoint", ids: "Ids", split: str) -> "dict[str, Ids]":
    """The parts of a list as a training run holds them."""
    from training.items.split import all_items, learnt_after, split_items, too_few

    if split == "whole":
        if not len(whole := all_items(ids, model.tokenizer)):
            raise CorpusError("The list has no item that is not empty, so there is nothing to predict; name another.")
        return {"whole": whole}
    pieces = split_items(ids, split, model.tokenizer, any_number=True, learn_after=learnt_after(model))
    if not pieces.held_out:
        few = too_few(learnt_after(model))
        raise CorpusError(f"The list has {few}, so none is held out; leave out --split.")
    return {"train": pieces.train, "validation": pieces.validation, "test": pieces.test}


@dataclass(frozen=True)
class _Evaluation:
    """A checkpoint, the parts of a text, and how it is to read them.

    usual: the protocol that it is measured by. memory: the weights of the online memory, to read with it.
    """

    model: "Checkpoint"
    parts: "dict[str, Ids]"
    options: EvaluateOptions
    bar: "ScoringBar"
    usual: Protocol
    memory: "MemoryWeights | None" = None

    def scores(self, protocol: Protocol, name: str = "") -> "dict[str, Score]":
        """The score of the whole; or of validation, test and both. name: for the bar, where not the protocol's."""
        from training.evaluation.protocols import alone, carried, cold_parts, cold_targets

        scored = {name: part for name, part in self.parts.items() if name != "train"}
        ids = {
            Protocol.CARRIED: sum(len(part) - 1 for part in scored.values()),
            Protocol.COLD: sum(cold_targets(part, self.options.windows) for part in scored.values()),
            Protocol.ALONE: sum(map(len, scored.values())),
        }
        self.bar.begin(name or protocol, ids.get(protocol))
        if protocol is Protocol.COLD:
            return cold_parts(self._read(self.model), scored, windows=self.options.windows)
        if protocol is Protocol.ALONE:
            of_items = self._separator(), None, self._learn_after()
            return _with_both({name: alone(self._read(self.model), part, *of_items) for name, part in scored.items()})
        if protocol is Protocol.DYNAMIC:
            from model.network import from_tensors
            from training.evaluation.dynamic_evaluation import dynamic

            network = from_tensors(self.model.config, self.model.tensors)
            train, sizes = self.parts["train"], (self.options.batch_size, self.options.threads)
            found = dynamic(network, train, scored, "validation", *sizes, self.memory)[1]
        else:
            size = self.options.batch_size or (None if self.memory is None else 1)
            found = {name: carried(self._read(self.model), part, size) for name, part in scored.items()}
        if self.memory is not None:
            found = {n: replace(s, protocol=f"{s.protocol}; with the online memory") for n, s in found.items()}
        return _with_both(found)

    def tempered(self) -> "tuple[float, dict[str, Score]]":
        """The temperature fitted on the validation part, and the scores with the state carried at it."""
        from model.network import from_tensors
        from training.evaluation.calibration import fit_temperature, scale_output

        network = from_tensors(self.model.config, self.model.tensors)
        self.bar.begin("fitting the temperature", None)
        sizes = self.options.batch_size, self.options.threads
        temperature = fit_temperature(network, self.parts["validation"], *sizes, self._separator(), self._learn_after())
        scaled = replace(self.model, tensors=scale_output(self.model.tensors, temperature))
        found = replace(self, model=scaled).scores(self.usual, "tempered")
        words = f"temperature {temperature:.4f} fitted on validation"
        return temperature, {n: replace(s, protocol=f"{s.protocol}, {words}") for n, s in found.items()}

    def _separator(self) -> list[int]:
        """The ids that end an item; none in one long text."""
        separator: list[int] = self.model.tokenizer.encode(self.model.tokenizer.frame.separator).tolist()
        return separator

    def _learn_after(self) -> list[int]:
        """The ids in an item after which the checkpoint has learnt it; none where it has learnt all."""
        from training.items.split import learnt_after

        found: list[int] = self.model.tokenizer.encode(learnt_after(self.model)).tolist()
        return found

    def _read(self, model: "Checkpoint") -> "Reader":
        if self.options.reader == "network":
            from model.network import from_tensors
            from training.evaluation.network_reader import network_distributions, network_reader

            network = from_tensors(model.config, model.tensors)
            if self.memory is not None:
                return self._remembering(network_distributions(network, self.options.threads), self.memory)
            return self.bar.counted(network_reader(network, threads=self.options.threads))
        from model.decoding.decoder import Decoder
        from training.evaluation.online_memory import decoder_distributions
        from training.evaluation.readers import decoder_reader

        decoder = Decoder(model, self.options.reader)
        if self.memory is not None:
            return self._remembering(decoder_distributions(decoder), self.memory)
        return self.bar.counted(decoder_reader(decoder))

    def _remembering(self, distribute: "Distribute", weights: "MemoryWeights") -> "Reader":
        from training.evaluation.online_memory import Memories, remembering

        return self.bar.counted(remembering(distribute, Memories(weights)))


def _with_both(scores: "dict[str, Score]") -> "dict[str, Score]":
    if "validation" not in scores:
        return scores
    return {**scores, "validation and test": scores["validation"] + scores["test"]}


def _to_json(
    scores: "dict[Protocol, dict[str, Score]]", tempered: "tuple[float, dict[str, Score]] | None"
) -> dict[str, Any]:
    """`parts`: the figures of the first protocol by part; `protocols`: those of each; `temperature` where fitted."""
    protocols = {name: {part: s.to_json() for part, s in found.items()} for name, found in scores.items()}
    values: dict[str, Any] = {"parts": next(iter(protocols.values())), "protocols": protocols}
    if tempered is not None:
        parts = {part: score.to_json() for part, score in tempered[1].items()}
        values["temperature"] = {"fitted": round(tempered[0], 4), "parts": parts}
    return values


def _show(console: TerminalConsole, scores: "Mapping[str, dict[str, Score]]", reader: ReaderName) -> None:
    """A table with a row for each protocol and part, and what the protocols did below."""
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    items = any(score.items for found in scores.values() for score in found.values())
    last = ("items", "bits per\nitem") if items else ("nats per\ncharacter",)
    for column in ("protocol", "part", "characters", "bits per\ncharacter", *last):
        table.add_column(column, justify="left" if column in ("protocol", "part") else "right", no_wrap=True)
    words = []
    for name, found in scores.items():
        for number, (part, score) in enumerate(found.items()):
            error = "" if score.standard_error is None else f" ± {score.standard_error:.4f}"
            of_items = (f"{score.items or 0:,}", f"{score.bits_per_item or 0:.2f}")
            figures = of_items if items else (f"{score.nats_per_character:.4f}{error}",)
            row = ("" if number else name, part, f"{score.characters:,}", f"{score.bits_per_character:.4f}", *figures)
            table.add_row(*row)
        done = dict.fromkeys(score.protocol for part, score in found.items() if " and " not in part)
        words.append((name, MEANINGS[name]))
        words += [("", f"({one}; {READERS[reader]})") for one in done]
    console.print(table)
    console.print()
    console.rows(words)
