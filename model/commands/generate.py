"""The verb `unroll generate`: what a checkpoint writes, on a terminal as it is drawn, as JSON, or as a list."""

import secrets
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

import typer

from model.command_line.from_options import command_of
from model.command_line.options import option
from model.command_line.terminal import drop_output
from model.commands.common import BUNDLED, CHECKPOINT, INTERRUPTED, JSON, MOST_BYTES, note, print_json, write
from model.commands.generate_beams import BeamSearchOptions
from model.commands.generate_list import ListOptions, list_items, write_list
from model.commands.interactive import Conversation, converse
from model.errors import ParameterError
from model.memory import DEFAULT_MOST_BYTES, HELP, LoadLimit

SAMPLING, CONSTRAINT = "Sampling", "Constraint"  # groups of `unroll generate --help`


@dataclass(frozen=True, kw_only=True)
class SamplingOptions:
    """How characters are drawn; each name is one of SamplingParameters, which checks its range."""

    temperature: float = option(0.8, "Divides the logits, 0 to 100; 0 takes the likeliest character always.", SAMPLING)
    top_k: int = option(0, "Draw among this many likeliest characters; 0 is all.", SAMPLING)
    top_p: float = option(
        1.0, "Draw among the fewest characters that hold this share of probability; 1 is all.", SAMPLING
    )
    min_p: float = option(0.0, "Drop characters less likely than this share of the likeliest; 0 is none.", SAMPLING)
    typical_p: float = option(1.0, "Draw among the most typical characters that hold this share; 1 is all.", SAMPLING)
    repetition_penalty: float = option(
        1.0, "Weakens logits of characters in prompt or text by this factor; 1 is none.", SAMPLING
    )
    presence_penalty: float = option(0.0, "Subtracted from the logit of a character the text has; 0 is none.", SAMPLING)
    frequency_penalty: float = option(
        0.0, "Subtracted from a logit once per occurrence in the text; 0 is none.", SAMPLING
    )
    seed: int | None = option(
        None, "Whole number of 64 bits; the same seed draws the same text.", SAMPLING, shown="random"
    )

    def parameters(self) -> Any:
        """The sampling parameters; a seed that was not chosen is random. Raises ParameterError."""
        from model.sampling.parameters import SamplingParameters

        chosen = {one.name: getattr(self, one.name) for one in fields(self)}
        return SamplingParameters(**{**chosen, "seed": secrets.randbits(32) if self.seed is None else self.seed})


@dataclass(frozen=True, kw_only=True)
class ConstraintOptions:
    """What the texts must match; at most one of them is chosen."""

    regex: str | None = option(None, "The text matches this regular expression.", CONSTRAINT, shown="none")
    choice: tuple[str, ...] = option((), "The text is this one; repeat it for more.", CONSTRAINT, shown="none")
    json_schema: Path | None = option(None, "The text is JSON of the schema in this file.", CONSTRAINT, shown="none")
    grammar: Path | None = option(
        None, "The text matches the grammar in this file, in Lark or GBNF.", CONSTRAINT, shown="none"
    )

    def constraint(self) -> Any:
        """What the texts must match, or None. Raises ParameterError where two things are asked for."""
        from model.constraints.constraint import Constraint

        names = [one.name for one in fields(self) if getattr(self, one.name) not in (None, ())]
        if len(names) > 1:
            raise ParameterError(names[1], f"There is both a {names[0]} and a {names[1]}; give one of them.")
        if self.regex is not None:
            return Constraint("regex", self.regex, "regex")
        if self.choice:
            return Constraint.of_value("choice", list(self.choice), "choice")
        if self.json_schema is not None:
            return Constraint("json_schema", read_file(self.json_schema, "json_schema_file"), "json_schema")
        if self.grammar is not None:
            return Constraint("grammar", read_file(self.grammar, "grammar_file"), "grammar")
        return None


@dataclass(frozen=True, kw_only=True)
class GenerateOptions:
    """Every option of `unroll generate`, each said once."""

    checkpoint: Path | None = option(None, CHECKPOINT, argument=True, shown=BUNDLED)
    prompt: str = option("", "Text to continue; without one, a new line begins.")
    label: str | None = option(None, "Begin an item of this label, which is not shown.", shown="none")
    prompt_file: Path | None = option(None, "Read the prompt from this UTF-8 file instead; - is standard input.")
    max_tokens: int = option(500, "Characters to draw at most.", typer={"min": 0})
    stop: tuple[str, ...] = option((), "End the text before this string; repeat it for more.", shown="none")
    n: int = option(1, "How many texts to generate.", flag="--n", typer={"min": 1, "max": 1024})
    arithmetic: Literal["int8", "fp32"] = option("int8", "Products in 8-bit integers, or in 32-bit floats.")
    echo: bool = option(True, "Show the prompt before its continuation.")
    max_model_bytes: int = option(DEFAULT_MOST_BYTES, HELP, typer=MOST_BYTES)
    as_json: bool = option(False, JSON, flag="--json")
    interactive: bool = option(
        False, "Read prompts from the keyboard, each continued after the text before it.", flag="--interactive"
    )
    memory: bool = option(
        False,
        "Draw with the online memory: what prompt and text had before is likelier again.",
        flag="--memory",
    )
    raw: bool = option(False, "Escapes such as \\n in prompt and stop strings are letters.", flag="--raw")
    sampling: SamplingOptions = field(default_factory=SamplingOptions)
    search: BeamSearchOptions = field(default_factory=BeamSearchOptions)
    match: ConstraintOptions = field(default_factory=ConstraintOptions)
    bulk: ListOptions = field(default_factory=ListOptions)

    def read_escapes(self) -> "GenerateOptions":
        """The same with what a person means by prompt and stop strings, unless they are raw."""
        from model.text.escapes import unescaped

        if self.raw:
            return self
        return replace(self, prompt=unescaped(self.prompt), stop=tuple(map(unescaped, self.stop)))

    def check_memory(self) -> None:
        """Raise ParameterError where an option is given that texts with a memory do not have."""
        given = {"beams": self.search.beams, "count": self.bulk.count, "interactive": self.interactive}
        wrong = [name for name, value in given.items() if value]
        if self.memory and wrong:
            raise ParameterError("memory", f"--memory is of single texts and goes without --{wrong[0]}; leave out one.")

    def check_interactive(self) -> None:
        """Raise ParameterError where an option is given that a conversation does not have."""
        chosen = [one.name for one in fields(self.match) if getattr(self.match, one.name) not in (None, ())]
        given = {"json": self.as_json, "n": self.n > 1, "beams": self.search.beams, "count": self.bulk.count}
        given |= {"prompt-file": self.prompt_file == Path("-")}
        wrong = [name for name, value in given.items() if value] + [name.replace("_", "-") for name in chosen]
        if self.interactive and wrong:
            raise ParameterError("interactive", f"--interactive goes without --{wrong[0]}; leave out one of the two.")


def _generate(_: typer.Context, options: GenerateOptions) -> None:
    """Continue a prompt, character by character as they are drawn.

    Examples:

      unroll generate --prompt "Once upon a time"

      unroll generate runs/book/best --prompt "Once" --seed 7 --temperature 0.5

      unroll generate --prompt "JULIET:" --stop "ROMEO:" --n 3 --json

      cat chapter.txt | unroll generate --prompt-file - --max-tokens 2000

      unroll generate --prompt "My lord " --regex "[A-Z][a-z]+ of [A-Z][a-z]+" --n 3

      unroll generate runs/book/best --interactive

      unroll generate runs/fr-en/best --prompt "bonjour|" --stop "\\n" --beams 4

      unroll generate runs/names/best --count 10000 --unique --novel-to names.txt --out new.txt

      unroll generate runs/names/best --count 10000000 --out many.txt --ray 10.0.0.1:6379
    """
    from model.checkpoint import named_checkpoint
    from model.checkpoint import read as read_checkpoint
    from model.decoding.decoder import Decoder
    from model.text.prompt import Prompt

    options.bulk.check(options.n, options.as_json)
    options.search.check(options.sampling, options.match, options.bulk.count)
    options.check_interactive()
    options.check_memory()
    options = replace(options.read_escapes(), sampling=options.bulk.seeded(options.sampling))
    parameters = options.sampling.parameters()
    text = options.prompt if options.prompt_file is None else read_prompt(options.prompt_file, options.prompt)
    limit = LoadLimit(most_bytes=options.max_model_bytes, arithmetic=options.arithmetic)
    stored = read_checkpoint(named_checkpoint(options.checkpoint), limit)
    loaded = stored.checkpoint
    decoder = Decoder(loaded, options.arithmetic)
    label = loaded.tokenizer.frame.labelled(options.label)
    read = Prompt(loaded.tokenizer, decoder.ids, label + text)
    settings: dict[str, Any] = {"max_tokens": options.max_tokens, "parameters": parameters, "stop": list(options.stop)}
    constraint = options.match.constraint()
    if constraint is not None:
        from model.constraints.compiling import compiled
        from model.constraints.vocabulary import Vocabulary

        settings["constraint"] = compiled(constraint, Vocabulary(loaded.tokenizer, decoder.ids))
        settings["constraint"].check(options.max_tokens)
    if options.memory:
        from model.online_memory.weights import MemoryWeights

        settings["memory"] = MemoryWeights.required(loaded.training, loaded.tokenizer.frame.items)
    if stored.note:
        note(stored.note)
    if read.unseen:
        note(f"{read.unseen:,} of the prompt's {len(label + text):,} characters never occurred in training.")
    if options.interactive:
        converse(Conversation(decoder, loaded.tokenizer, settings, label), text, options.raw)
        return
    if options.bulk.count is not None:
        identity = {"model": stored.digests.model, "arithmetic": options.arithmetic, "constraint": repr(constraint)}
        items = list_items(loaded.tokenizer, label + text, settings)
        cluster = None
        if options.bulk.ray is not None:
            from model.cluster.item_blocks import ItemCluster

            cluster = ItemCluster(options.bulk.ray, loaded, options.arithmetic, items, constraint)
        write_list(decoder, loaded.tokenizer, options.bulk, items, identity, (label, options.echo), cluster)
        return
    echoed = text if options.echo else ""
    if not (options.as_json or options.search.beams):
        stream_choices(decoder, loaded.tokenizer, label + text, settings, options.n, echoed)
        return
    collect = options.search.find if options.search.beams else collect_choices
    choices, drawn = collect(decoder, loaded.tokenizer, label + text, settings, options.n)
    if not options.as_json:
        write_choices(choices, echoed)
        return
    usage = {
        "prompt_tokens": read.tokens,
        "completion_tokens": drawn,
        "total_tokens": read.tokens + drawn,
        "unseen_characters": read.unseen,
    }
    model = str(options.checkpoint or "bundled")
    named = {} if options.label is None else {"label": options.label}
    print_json({"model": model, "prompt": text, **named, "choices": choices, "seed": parameters.seed, "usage": usage})


generate = command_of(GenerateOptions, _generate)


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


def stream_choices(decoder: Any, tokenizer: Any, prompt: str, settings: Mapping[str, Any], n: int, echo: str) -> None:
    """Write each text to standard output as it is drawn, after `echo`; a reader who leaves or Ctrl-C ends it."""
    from model.generate import generate as continue_text

    with quiet_end():
        for choice in range(n):
            if n > 1:
                write(f"--- {choice + 1} of {n} ---\n")
            pieces = continue_text(decoder, tokenizer, prompt, choice=choice, **settings)
            write(echo)
            for piece in pieces:
                write(piece.text)
            write("\n")


def write_choices(choices: list[dict[str, Any]], before: str) -> None:
    """Write texts that are whole to standard output, each after the prompt or nothing."""
    with quiet_end():
        for at, choice in enumerate(choices, 1):
            write(f"--- {at} of {len(choices)} ---\n" if len(choices) > 1 else "")
            write(f"{before}{choice['text']}\n")


@contextmanager
def quiet_end() -> Iterator[None]:
    """Let a reader that leaves, or Ctrl-C, end the writing quietly; for a `with` block."""
    try:
        yield
    except KeyboardInterrupt:
        write("\n")
        raise typer.Exit(INTERRUPTED) from None
    except BrokenPipeError:
        drop_output()


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
