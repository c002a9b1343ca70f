"""The verbs `unroll generate` and `unroll info`: what a checkpoint writes and what it is, for a terminal or as JSON."""

import json
import os
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.table import Table
from rich.text import Text

from model.console import TerminalConsole
from model.errors import ParameterError
from model.terminal import for_terminal, in_a_line, json_for_terminal, never_fail, shell_word

INTERRUPTED = 130  # the exit code of a program that Ctrl-C ended
ONLY_WHERE_SET = ("network skip",)  # that many networks do without: no row of a table for a reader

CheckpointArgument = Annotated[
    Path | None, typer.Argument(help="Checkpoint folder, as `unroll train` writes it.", show_default="the bundled one")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")]


def generate(
    checkpoint: CheckpointArgument = None,
    prompt: Annotated[str, typer.Option(help="Text to continue; without one, a new line begins.")] = "",
    prompt_file: Annotated[
        Path | None, typer.Option(help="Read the prompt from this UTF-8 file instead; - is standard input.")
    ] = None,
    max_tokens: Annotated[int, typer.Option(min=0, help="Characters to draw at most.")] = 500,
    temperature: Annotated[
        float, typer.Option(help="Divides the logits, 0 to 100; 0 takes the likeliest character always.")
    ] = 0.8,
    top_k: Annotated[int, typer.Option(help="Draw among this many likeliest characters; 0 is all.")] = 0,
    top_p: Annotated[
        float, typer.Option(help="Draw among the fewest characters that hold this share of probability; 1 is all.")
    ] = 1.0,
    min_p: Annotated[
        float, typer.Option(help="Drop characters less likely than this share of the likeliest; 0 is none.")
    ] = 0.0,
    typical_p: Annotated[
        float, typer.Option(help="Draw among the most typical characters that hold this share; 1 is all.")
    ] = 1.0,
    repetition_penalty: Annotated[
        float, typer.Option(help="Weakens logits of characters in prompt or text by this factor; 1 is none.")
    ] = 1.0,
    presence_penalty: Annotated[
        float, typer.Option(help="Subtracted from the logit of a character the text has; 0 is none.")
    ] = 0.0,
    frequency_penalty: Annotated[
        float, typer.Option(help="Subtracted from a logit once per occurrence in the text; 0 is none.")
    ] = 0.0,
    seed: Annotated[
        int | None,
        typer.Option(help="Whole number of 64 bits; the same seed draws the same text.", show_default="random"),
    ] = None,
    stop: Annotated[
        list[str] | None,
        typer.Option(help="End the text before this string; repeat it for more.", show_default="none"),
    ] = None,
    n: Annotated[int, typer.Option("--n", min=1, max=1024, help="How many texts to generate.")] = 1,
    regex: Annotated[
        str | None, typer.Option(help="The text matches this regular expression.", show_default="none")
    ] = None,
    choice: Annotated[
        list[str] | None, typer.Option(help="The text is this one; repeat it for more.", show_default="none")
    ] = None,
    json_schema: Annotated[
        Path | None, typer.Option(help="The text is JSON of the schema in this file.", show_default="none")
    ] = None,
    grammar: Annotated[
        Path | None,
        typer.Option(help="The text matches the grammar in this file, in Lark or GBNF.", show_default="none"),
    ] = None,
    arithmetic: Annotated[
        Literal["int8", "fp32"], typer.Option(help="Products in 8-bit integers, or in 32-bit floats.")
    ] = "int8",
    echo: Annotated[bool, typer.Option("--echo/--no-echo", help="Show the prompt before its continuation.")] = True,
    as_json: JsonOption = False,
) -> None:
    """Continue a prompt, character by character as they are drawn.

    Examples:

      unroll generate --prompt "Once upon a time"

      unroll generate runs/book/best --prompt "Once" --seed 7 --temperature 0.5

      unroll generate --prompt "JULIET:" --stop "ROMEO:" --n 3 --json

      cat chapter.txt | unroll generate --prompt-file - --max-tokens 2000

      unroll generate --prompt "My lord " --regex "[A-Z][a-z]+ of [A-Z][a-z]+" --n 3
    """
    from model.checkpoint import named_checkpoint
    from model.checkpoint import read as read_checkpoint
    from model.decoding.decoder import Decoder
    from model.sampling.parameters import SamplingParameters
    from model.text.prompt import Prompt

    seed = secrets.randbits(32) if seed is None else seed
    parameters = SamplingParameters(
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        typical_p=typical_p,
        repetition_penalty=repetition_penalty,
        presence_penalty=presence_penalty,
        frequency_penalty=frequency_penalty,
        seed=seed,
    )
    text = prompt if prompt_file is None else read_prompt(prompt_file, prompt)
    stored = read_checkpoint(named_checkpoint(checkpoint))
    loaded = stored.checkpoint
    decoder = Decoder(loaded, arithmetic)
    read = Prompt(loaded.tokenizer, decoder.ids, text)
    settings: dict[str, Any] = {"max_tokens": max_tokens, "parameters": parameters, "stop": stop or []}
    constraint = constraint_of(regex, choice, json_schema, grammar)
    if constraint is not None:
        from model.constraints.compiling import compiled
        from model.constraints.vocabulary import Vocabulary

        settings["constraint"] = compiled(constraint, Vocabulary(loaded.tokenizer, decoder.ids))
        settings["constraint"].check(max_tokens)
    if stored.note:
        note(stored.note)
    if read.unseen:
        note(f"{read.unseen:,} of the prompt's {len(text):,} characters never occurred in training.")
    if not as_json:
        stream_choices(decoder, loaded.tokenizer, text, settings, n, echo)
        return
    choices, drawn = collect_choices(decoder, loaded.tokenizer, text, settings, n)
    usage = {
        "prompt_tokens": read.tokens,
        "completion_tokens": drawn,
        "total_tokens": read.tokens + drawn,
        "unseen_characters": read.unseen,
    }
    model = str(checkpoint or "bundled")
    print_json({"model": model, "prompt": text, "choices": choices, "seed": seed, "usage": usage})


def read_prompt(path: Path, prompt: str) -> str:
    """The prompt in a file, or in standard input, to the character: no line break is added, changed or cut."""
    if prompt:
        raise ParameterError("prompt_file", "There is a prompt and a prompt file; give one of them.")
    return read_file(path, "prompt_file")


def read_file(path: Path, name: str) -> str:
    """The text of a file that an option names, or of standard input. Raises ParameterError where it is no text."""
    what = f"The {name.removesuffix('_file').replace('_', ' ')} file {path}"
    try:
        content = sys.stdin.buffer.read() if path == Path("-") else path.read_bytes()
        return content.decode("utf-8")
    except OSError as error:
        raise ParameterError(name, f"{what} cannot be read ({error.strerror}).") from error
    except UnicodeDecodeError as error:
        message = f"{what} is not UTF-8 at byte {error.start:,}; convert it, for instance with iconv."
        raise ParameterError(name, message) from error


def constraint_of(regex: str | None, choice: list[str] | None, json_schema: Path | None, grammar: Path | None) -> Any:
    """What the texts must match, or None. Raises ParameterError where two things are asked for."""
    from model.constraints.constraint import Constraint

    asked = {"regex": regex, "choice": choice or None, "json_schema": json_schema, "grammar": grammar}
    names = [name for name, value in asked.items() if value is not None]
    if len(names) > 1:
        raise ParameterError(names[1], f"There is both a {names[0]} and a {names[1]}; give one of them.")
    if regex is not None:
        return Constraint("regex", regex, "regex")
    if choice:
        return Constraint.of_value("choice", choice, "choice")
    if json_schema is not None:
        return Constraint("json_schema", read_file(json_schema, "json_schema_file"), "json_schema")
    return None if grammar is None else Constraint("grammar", read_file(grammar, "grammar_file"), "grammar")


def stream_choices(decoder: Any, tokenizer: Any, prompt: str, settings: Mapping[str, Any], n: int, echo: bool) -> None:
    """Write each text to standard output as it is drawn; a reader that leaves or Ctrl-C ends it quietly."""
    from model.generate import generate as continue_text

    try:
        for choice in range(n):
            if n > 1:
                write(f"--- {choice + 1} of {n} ---\n")
            pieces = continue_text(decoder, tokenizer, prompt, choice=choice, **settings)
            write(prompt if echo else "")
            for piece in pieces:
                write(piece.text)
            write("\n")
    except KeyboardInterrupt:
        write("\n")
        raise typer.Exit(INTERRUPTED) from None
    except BrokenPipeError:
        # Python flushes standard output once more as it exits; there it must find someone who listens.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def collect_choices(
    decoder: Any, tokenizer: Any, prompt: str, settings: Mapping[str, Any], n: int
) -> tuple[list[dict[str, Any]], int]:
    """Each text with its reason to end, and how many ids were drawn for all of them."""
    from model.generate import generate as continue_text

    choices: list[dict[str, Any]] = []
    drawn = 0
    for choice in range(n):
        pieces = list(continue_text(decoder, tokenizer, prompt, choice=choice, **settings))
        text = "".join(piece.text for piece in pieces)
        choices.append({"index": choice, "text": text, "finish_reason": pieces[-1].finish_reason})
        drawn += pieces[-1].tokens
    return choices, drawn


def info(
    checkpoint: CheckpointArgument = None,
    everything: Annotated[bool, typer.Option("--all", help="Show every value it has.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show what a checkpoint is: its network, its vocabulary, its size, how it was trained and how good it is.

    Examples:

      unroll info

      unroll info runs/book --all

      unroll info runs/book/best --json
    """
    from model.checkpoint import named_checkpoint, read

    folder = named_checkpoint(checkpoint)
    stored = read(folder)
    facts = describe(stored, folder)
    if stored.note:
        note(stored.note)
    if as_json:
        print_json({"model": str(checkpoint or "bundled"), **facts})
        return
    if not everything:
        rows = {"checkpoint": str(folder), **summary(facts), "more": f"unroll info {shell_word(folder)} --all"}
        print_rows({name: in_a_line(value) for name, value in rows.items()})
        return
    table = Table("name", "value", title=str(folder), show_header=False, title_justify="left")
    table.columns[1].overflow = "fold"
    for name, value in flatten(facts).items():
        if name in ONLY_WHERE_SET and not value:
            continue
        table.add_row(plain(name.replace("_", " ")), plain(value))
    TerminalConsole().print(table)


def describe(stored: Any, folder: Path) -> dict[str, Any]:
    """What can be said of a checkpoint as `model.checkpoint.read` gives it, as JSON values."""
    from model.text.utf8_ids import BYTES

    checkpoint, digests = stored.checkpoint, stored.digests
    config, unseen = checkpoint.config, checkpoint.unseen
    return {
        "network": {
            "cell": config.cell,
            "layers": config.layers,
            "hidden": config.hidden,
            "embedding": config.embedding,
            "skip": config.skip,
            "parameters": config.parameters(),
        },
        "vocabulary": {
            "ids": config.vocabulary,
            "characters": config.vocabulary - BYTES,
            "characters_never_seen": int((unseen >= BYTES).sum()),
            "bytes_seen": BYTES - int((unseen < BYTES).sum()),
        },
        "weights": stored.dtype,
        "bytes_on_disk": sum(path.stat().st_size for path in folder.iterdir() if path.is_file()),
        "state_bytes_per_stream": 4 * config.state_layout().floats,
        "digest": digests.model,
        "digests": {"weights": digests.weights, "tokenizer": digests.tokenizer, "recorded": digests.recorded},
        "training": dict(checkpoint.training),
    }


def summary(facts: Mapping[str, Any]) -> dict[str, str]:
    """The same in ten lines at most, by name; what a checkpoint does not say of its training has none."""
    network, vocabulary, training = facts["network"], facts["vocabulary"], facts["training"]
    skip = ", skip connections" if network["skip"] else ""
    rows = {
        "network": f"{network['layers']} × {network['hidden']} {network['cell'].upper()}{skip}, embedding "
        f"{network['embedding']}, {network['parameters']:,} parameters",
        "vocabulary": f"{vocabulary['characters']:,} characters, others in UTF-8 bytes",
        "size": f"{facts['bytes_on_disk'] / 1e6:.1f} MB in {facts['weights']}, "
        f"{facts['state_bytes_per_stream']:,} bytes of state per stream, digest {facts['digest'][:12]}",
    }
    files, characters = within(training, "corpus", "files"), within(training, "corpus", "characters")
    if isinstance(files, list) and files:
        more = f" and {len(files) - 2:,} more" if len(files) > 2 else ""
        rows["corpus"] = (
            f"{', '.join(map(str, files[:2]))}{more}: {plain(characters)} characters, split {training.get('split')}"
        )
    if isinstance(steps := training.get("steps"), int):
        rows["training"] = f"{steps:,} steps, {plain(training.get('characters_read'))} characters read"
    for part in ("validation", "test"):
        if isinstance(bits := within(training, "figures", part, "bits_per_character"), int | float):
            rows[part] = f"{bits:.4f} bits per character"
    if isinstance(command := training.get("command"), str):
        rows["command"] = command
    return rows


def print_rows(rows: Mapping[str, str]) -> None:
    """A line for each, its value in a column; on a terminal what is too long for the line ends in an ellipsis."""
    console = TerminalConsole()
    width = max(map(len, rows)) + 2
    for name, value in rows.items():
        line = Text(f"{name:{width}}{value}")
        if console.is_terminal:
            line.truncate(console.width, overflow="ellipsis")
        console.print(line, soft_wrap=True)


def within(values: Any, *names: str) -> Any:
    """What stands in nested tables under some names, one below the other; None where nothing does."""
    for name in names:
        values = values.get(name) if isinstance(values, dict) else None
    return values


def flatten(values: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Nested tables as one, a row per value: {"a": {"b": 1}} is {"a b": 1}."""
    rows: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            rows |= flatten(value, f"{above}{name} ")
        else:
            rows[f"{above}{name}"] = value
    return rows


def plain(value: Any) -> str:
    """A JSON value as a reader likes it: digits in groups."""
    match value:
        case bool() | None:
            return {True: "yes", False: "no", None: "unknown"}[value]
        case int():
            return f"{value:,}"
        case float():
            return f"{value:.6g}"
        case str():
            return value
        case _:
            return json.dumps(value, ensure_ascii=False)


def write(text: str) -> None:
    """Text at once: as it is into a file or pipe, harmless on a terminal.

    A character that the encoding lacks becomes a question mark.
    """
    never_fail(sys.stdout)
    sys.stdout.write(for_terminal(text) if sys.stdout.isatty() else text)
    sys.stdout.flush()


def print_json(value: Any) -> None:
    """One JSON object in UTF-8, as RFC 8259 wants it, whatever the terminal's encoding."""
    written = json_for_terminal(json.dumps(value, indent=2, ensure_ascii=False))
    sys.stdout.buffer.write(f"{written}\n".encode())
    sys.stdout.flush()


def note(message: str) -> None:
    """One line on standard error."""
    TerminalConsole(stderr=True).print(f"note: {message}", style="yellow", soft_wrap=True)
