"""The verb `unroll copied`."""

import json
from dataclasses import dataclass
from pathlib import Path

import typer

from model.command_line.console import TerminalConsole
from model.command_line.from_options import command_of
from model.command_line.options import option
from model.commands.common import JSON, MOST_BYTES
from model.errors import CorpusError
from model.memory import DEFAULT_MOST_BYTES, HELP, LoadLimit
from training.commands.shared import TextOptions


@dataclass(frozen=True, kw_only=True)
class CopiedOptions:
    """Every option of `unroll copied`; with a --split it looks in the train part alone."""

    source: TextOptions
    characters: int = option(10_000, "Characters to draw.", typer={"min": 1})
    temperature: float = option(0.8, "Divides the logits, 0 to 100; 0 takes the likeliest character always.")
    seed: int = option(1, "Whole number of 64 bits; the same seed draws the same text.")
    text: Path | None = option(None, "Judge this UTF-8 file rather than a drawn text.", shown="draw one")
    max_model_bytes: int = option(DEFAULT_MOST_BYTES, HELP, typer=MOST_BYTES)
    as_json: bool = option(False, JSON, flag="--json")


def _copied(_: typer.Context, options: CopiedOptions) -> None:
    """Measure what a model's text copies from the corpus it learnt.

    Prints the longest passage that both have, and how many of the text's passages of 8, 16 and 32 characters (n-grams)
    the corpus has nowhere; with --split, its train part. Held-out text, given with --text, shows how much any text of
    the kind repeats.

    Examples:

      unroll copied runs/book/best book.txt --split 90/5/5

      unroll copied runs/book/best book.txt --temperature 0.5 --characters 100000 --json

      unroll copied runs/book/best book.txt --text story.txt
    """
    from model.checkpoint import load, named_checkpoint
    from model.decoding.decoder import Decoder
    from training.data.named_corpus import open_corpus
    from training.data.split import split as cut
    from training.evaluation.memorisation import copied as compare
    from training.evaluation.memorisation import describe, draw
    from training.items.split import learnt_after, split_items

    source, text = options.source, options.text
    model = load(named_checkpoint(source.checkpoint), LoadLimit(most_bytes=options.max_model_bytes))
    separator = model.tokenizer.frame.separator
    if text is None:
        sample = draw(Decoder(model), model.tokenizer, options.characters, options.temperature, options.seed)
        how = f"drawn at temperature {options.temperature:g}"
    else:
        sample = open_corpus([str(text)], ending=separator).encode(model.tokenizer)
        how = f"of {text.name}"
        if not len(sample):
            raise CorpusError(f"{text} is empty, so nothing in it can be copied; name a file with text.")
    ids = source.open(model.tokenizer.frame).encode(model.tokenizer)
    if not len(ids):
        raise CorpusError("The corpus is empty, so nothing can be copied from it; name the one the model learnt.")
    if (split := source.split) != "whole":
        after = learnt_after(model)
        parts = split_items(ids, split, model.tokenizer, True, after) if separator else cut(ids, split)
        ids = parts.train
    found = compare(sample, ids, model.tokenizer)
    if options.as_json:
        drawn = {"temperature": options.temperature, "seed": options.seed} if text is None else {"text": str(text)}
        typer.echo(json.dumps({"split": split, **drawn, **found.to_json()}))
        return
    console = TerminalConsole()
    where = "corpus" if split == "whole" else "train part"
    console.say(describe(found, how, where))
    if found.begins_in_corpus is not None:
        console.say(f"The {where} first has it at character {found.begins_in_corpus:,}.")
    if split == "whole" and isinstance(learnt := model.training.get("split"), str):
        console.say(f"The report of its run looks in what the model learnt alone: --split {learnt} does the same.")


copied = command_of(CopiedOptions, _copied)
