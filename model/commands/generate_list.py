"""`unroll generate --count`: the options of a list, and how it ends."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import typer

from model.command_line.options import option
from model.command_line.terminal import counted, shell_word
from model.commands.common import INTERRUPTED, RAY, check_ray, note, note_nodes
from model.errors import ParameterError

BULK = "In bulk"  # a group of `unroll generate --help`
NEEDS_COUNT = ("unique", "novel_to", "out", "resume", "check", "ray")

Seeded = TypeVar("Seeded")


@dataclass(frozen=True, kw_only=True)
class ListOptions:
    """What a list is to be like; see `model.bulk.listing.ListRequest`."""

    count: int | None = option(
        None, "Write a list of this many items, one a line.", BULK, shown="none", typer={"min": 1}
    )
    unique: bool = option(False, "Keep each item once.", BULK, flag="--unique")
    novel_to: Path | None = option(None, "Keep no item that is a line of this file.", BULK, shown="none")
    out: Path | None = option(None, "Write the list to this file.", BULK, shown="standard output")
    form: Literal["text", "jsonl", "csv"] = option("text", "Of the list.", BULK, flag="--format")
    resume: bool = option(False, "Go on with the list in --out that was interrupted.", BULK, flag="--resume")
    check_command: str | None = option(
        None,
        "A command that reads the items and writes those that are valid, as grep does: what share is.",
        BULK,
        flag="--check",
        shown="none",
    )
    threads: int | None = option(None, "Threads that draw the list.", BULK, shown="one a core", typer={"min": 1})
    ray: str | None = option(None, f"Draw the list on {RAY}", BULK, metavar="[ADDRESS]", shown="none")

    def check(self, n: int, as_json: bool) -> None:
        """Raise ParameterError where an option of lists is given and no list is asked for, or one that lists lack."""
        given = {**{name: getattr(self, name, None) for name in NEEDS_COUNT}, "check": self.check_command}
        names = [f"--{name.replace('_', '-')}" for name, value in given.items() if value]
        if self.count is None and names:
            raise ParameterError("count", f"{' and '.join(names)} needs a list; say of how many items, with --count.")
        if self.count is not None and (n > 1 or as_json):
            raise ParameterError("count", "--count writes a list: leave out --n, and for JSON choose --format jsonl.")
        check_ray(self.ray, self.threads)

    def seeded(self, sampling: Seeded) -> Seeded:
        """The options of sampling, with the seed of the list that is resumed where none was chosen."""
        if not self.resume or getattr(sampling, "seed", None) is not None:
            return sampling
        from model.bulk.list_file import begun_seed

        return replace(sampling, seed=begun_seed(self.out))  # type: ignore[type-var]


def list_items(tokenizer: Any, prompt: str, settings: Mapping[str, Any]) -> Any:
    """What all items of a list share. An item ends as the model's do, or at a line break, unless it ends otherwise."""
    from model.bulk.drawing import ItemRequest

    ends = "constraint" in settings or tokenizer.frame.items
    stop = settings["stop"] or ([] if ends else ["\n"])
    return ItemRequest(prompt=prompt, **{**settings, "stop": stop})


def write_list(
    decoder: Any,
    tokenizer: Any,
    options: ListOptions,
    items: Any,
    identity: dict[str, Any],
    shown: tuple[str, bool],
    cluster: Any = None,
) -> None:
    """Write a list. shown: the label that its prompt begins with, and whether the rest of the prompt is shown.
    cluster: an ItemCluster, which draws it in place of this machine.

    Ctrl-C ends it with what there is, and so does a model that has no more to give."""
    from model.bulk.list_file import is_complete
    from model.bulk.listing import GaveUp, ListRequest, ListWriter

    assert options.count is not None
    if options.resume and options.out is not None and is_complete(options.out, options.form, options.count):
        note(f"{shell_word(options.out)} has its {counted(options.count, 'item')} already.")
        return
    label, echo = shown
    prompt = items.prompt.removeprefix(label)
    begun = max((prompt.rfind(stop) + len(stop) for stop in items.stop if stop in prompt), default=0)
    asked = ListRequest(
        count=options.count,
        unique=options.unique,
        novel_to=options.novel_to,
        out=options.out,
        form=options.form,
        lead=prompt[begun:] if echo else "",
        label=label,
        check=options.check_command,
        threads=options.threads,
        resume=options.resume,
    )
    writer = ListWriter(decoder, tokenizer, asked, items, identity, None if cluster is None else cluster.drawn)
    try:
        writer.write()
        if cluster is not None:
            note_nodes(cluster.nodes)
    except KeyboardInterrupt:
        note(writer.interrupted)
        raise typer.Exit(INTERRUPTED) from None
    except GaveUp:
        note(writer.gave_up)
        raise typer.Exit(1) from None
