"""The verb `unroll copied`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from model.commands.common import MostBytesOption
from model.console import TerminalConsole
from model.errors import CorpusError
from model.memory import DEFAULT_MOST_BYTES, LoadLimit
from training.commands.shared import option_of_training
from training.data.left_out import OnDecodeError
from training.data.split_scheme import IN_WORDS


def copied(
    checkpoint: Annotated[Path, typer.Argument(help="Checkpoint folder.")],
    corpus: Annotated[
        list[str], typer.Argument(metavar="CORPUS...", help="What it was trained on: files, folders, archives, or -.")
    ],
    split: Annotated[
        str,
        typer.Option(help="Look in the train part only; as in training, " + IN_WORDS + " whole looks in everything."),
    ] = "whole",
    encoding: Annotated[str, option_of_training("encoding")] = "utf-8",
    on_decode_error: Annotated[OnDecodeError, option_of_training("on_decode_error")] = "fail",
    characters: Annotated[int, typer.Option(min=1, help="Characters to draw.")] = 10_000,
    temperature: Annotated[
        float, typer.Option(help="Divides the logits, 0 to 100; 0 takes the likeliest character always.")
    ] = 0.8,
    seed: Annotated[int, typer.Option(help="Whole number of 64 bits; the same seed draws the same text.")] = 1,
    text: Annotated[
        Path | None, typer.Option(help="Judge this UTF-8 file rather than a drawn text.", show_default="draw one")
    ] = None,
    max_model_bytes: MostBytesOption = DEFAULT_MOST_BYTES,
    as_json: Annotated[bool, typer.Option("--json", help="Answer in JSON.")] = False,
) -> None:
    """Measure what a model's text copies from the corpus it learnt.

    Prints the longest passage that both have, and how many of the text's passages of 8, 16 and 32 characters (n-grams)
    the corpus has nowhere. Held-out text, given with --text, shows how much any text of the kind repeats.

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
    from training.items.split import split_items

    model = load(named_checkpoint(checkpoint), LoadLimit(most_bytes=max_model_bytes))
    separator = model.tokenizer.frame.separator
    if text is None:
        sample = draw(Decoder(model), model.tokenizer, characters, temperature, seed)
        how = f"drawn at temperature {temperature:g}"
    else:
        sample = open_corpus([str(text)], ending=separator).encode(model.tokenizer)
        how = f"of {text.name}"
        if not len(sample):
            raise CorpusError(f"{text} is empty, so nothing in it can be copied; name a file with text.")
    ids = open_corpus(corpus, encoding, on_decode_error, separator).encode(model.tokenizer)
    if not len(ids):
        raise CorpusError("The corpus is empty, so nothing can be copied from it; name the one the model learnt.")
    if split != "whole":
        ids = (split_items(ids, split, model.tokenizer, any_number=True) if separator else cut(ids, split)).train
    found = compare(sample, ids, model.tokenizer)
    if as_json:
        drawn = {"temperature": temperature, "seed": seed} if text is None else {"text": str(text)}
        typer.echo(json.dumps({"split": split, **drawn, **found.to_json()}))
        return
    console = TerminalConsole()
    console.say(describe(found, how))
    if found.begins_in_corpus is not None:
        console.say(f"The corpus first has it at character {found.begins_in_corpus:,}.")
