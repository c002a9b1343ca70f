"""Help of a verb: two columns that all its groups share, broken at spaces, with the kind of value an option takes."""

import re
from textwrap import wrap
from typing import Any

from typer.core import TyperCommand, TyperGroup

from model.command_line.optional_values import completed

WIDTH = 100  # columns at most: longer lines are hard to read
NAMES = 26  # columns of the names; a longer one has a line of its own

KINDS = {"str": "TEXT", "int": "INTEGER", "float": "NUMBER", "path": "PATH"}
KIND = re.compile(r"<(?:list\[(?P<several>.+)\]|(?P<one>.+?))(?: range)?>")
"""How typer writes the type of an option: <int range>, <list[str]>, <int8|fp32>."""

FACTS = re.compile(r"  \[(?P<facts>[^\[\]]+)\]$")
"""What typer writes behind the help: [env var: NAME; default: (none); 1<=x<=1024]."""
NUMBER = r"(-?[0-9.e+]+)"
FACTS_IN_WORDS = (
    (rf"{NUMBER}<=x<={NUMBER}", r"\1 to \2"),
    (rf"x>={NUMBER}", r"\1 or more"),
    (rf"x<={NUMBER}", r"up to \1"),
    (r"default: \((.*)\)", r"default: \1"),
    ("env var: ", ""),
)


class HelpPage(TyperCommand):
    """A verb with such a help."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the words behind the verb."""
        flags = {flag for one in self.get_params(ctx) for flag in one.opts}
        return super().parse_args(ctx, completed(args, flags))

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """The words of the first line behind the verb."""
        arguments = [one for one in self.get_params(ctx) if one.param_type_name == "argument"]
        return ["[OPTIONS]", *(_name(one) if one.required or one.metavar else f"[{_name(one)}]" for one in arguments)]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the options by groups, those that belong to none first."""
        _write_options(self, ctx, formatter)


class ProgramHelpPage(TyperGroup):
    """A program of verbs with such a help."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the options, and the verbs."""
        _write_options(self, ctx, formatter)
        self.format_commands(ctx, formatter)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the first sentence of each verb."""
        verbs = {name: self.get_command(ctx, name) for name in self.list_commands(ctx)}
        sentences = {name: (verb.help or "").partition("\n\n")[0] for name, verb in verbs.items() if verb is not None}
        _write(formatter, "Commands", [(name, " ".join(text.split())) for name, text in sentences.items()])


def _write_options(command: Any, ctx: Any, formatter: Any) -> None:
    groups: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": []}
    for parameter in command.get_params(ctx):
        if (record := parameter.get_help_record(ctx)) is None:
            continue
        text = FACTS.sub(_in_words, record[1])
        if parameter.param_type_name == "argument":
            groups["Arguments"].append((_name(parameter), text))
        else:
            group = getattr(parameter, "rich_help_panel", None) or "Options"
            groups.setdefault(group, []).append((KIND.sub(_kind, record[0]), text))
    for name, rows in groups.items():
        _write(formatter, name, rows)


def _name(argument: Any) -> str:
    """An argument as it stands on the command line."""
    return str(argument.metavar or argument.name.upper() + "..." * (argument.nargs != 1))


def _kind(match: re.Match[str]) -> str:
    kind = match["several"] or match["one"]
    return KINDS.get(kind, kind)


def _in_words(match: re.Match[str]) -> str:
    facts = match["facts"].split("; ")
    for pattern, words in FACTS_IN_WORDS:
        facts = [re.sub(f"^{pattern}", words, fact) for fact in facts]
    return f"  [{'; '.join(facts)}]"


def _write(formatter: Any, name: str, rows: list[tuple[str, str]]) -> None:
    """Write a group. Only at spaces is a text broken: half of a flag is none."""
    if not rows:
        return
    with formatter.section(name):
        at = " " * (formatter.current_indent + NAMES + 2)
        for names, text in rows:
            lines = wrap(text, formatter.width - len(at), break_on_hyphens=False, break_long_words=False) or [""]
            first = f"{' ' * formatter.current_indent}{names}"
            if len(first) > len(at) - 2:
                formatter.write(f"{first}\n{at}{lines[0]}\n")
            else:
                formatter.write(f"{first:{len(at)}}{lines[0]}\n")
            formatter.write("".join(f"{at}{line}\n" for line in lines[1:]))
