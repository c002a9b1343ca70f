"""Options of a command, each said once: flag, help, default and range stand beside the field that holds its value."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import Field, dataclass, field, fields, is_dataclass
from typing import Any, get_type_hints

from model.errors import ParameterError


@dataclass(frozen=True)
class Range:
    """Values a number may have, least and most among them. words: the same for a sentence, after "choose"."""

    least: float
    most: float
    words: str


def whole(least: int, most: int) -> Range:
    """Whole numbers between two, both among them."""
    return Range(least, most, f"a whole number from {least:,} to {most:,}")


def number(least: float, most: float) -> Range:
    """Numbers between two, both among them."""
    return Range(least, most, f"a number from {least:,} to {most:,}")


def above_zero(most: float) -> Range:
    """Numbers above 0, up to the largest."""
    return Range(math.nextafter(0, 1), most, f"a number above 0, up to {most:,}")


SHARE = Range(0, math.nextafter(1, 0), "a share from 0 to below 1")


@dataclass(frozen=True, kw_only=True)
class Option:
    """What a command line and an error say of a field.

    help: a sentence or two. panel: the group of the help it belongs to; None is the first.
    flag: where it is not the field's name; "--locked/--unlocked" are the flags of true and false.
    former: names of the flag, without dashes, that are still understood and not shown.
    shown: the default in words, where the field's does not say it. metavar: what the help calls a value.
    range: of a number. choices: of a word; the type of the field says them, too. secret: the value is never shown.
    argument: whether it has no flag. A field that is a tuple takes several values, an option by repeating it.
    variable: its environment variable, without the prefix all have, where that is not the field's name.
    typer: what else typer.Option or typer.Argument takes, by name.
    """

    help: str
    panel: str | None = None
    flag: str | None = None
    former: tuple[str, ...] = ()
    shown: str | None = None
    metavar: str | None = None
    range: Range | None = None
    choices: tuple[str, ...] = ()
    secret: bool = False
    argument: bool = False
    variable: str | None = None
    typer: Mapping[str, Any] = field(default_factory=dict)

    def variable_of(self, name: str) -> str:
        """The environment variable, without its prefix, of the field with that name."""
        return self.variable or name.upper()


def option(default: Any, help_: str, panel: str | None = None, **about: Any) -> Any:
    """A field that is an option; what else there is to say of it, see Option. The default MISSING is none."""
    return field(default=default, metadata={"option": Option(help=help_, panel=panel, **about)})


def about(one: Field[Any]) -> Option:
    """What is said of a field. Raises KeyError where it is no option."""
    return one.metadata["option"]  # type: ignore[no-any-return]


def options_of(kind: type) -> Iterator[Field[Any]]:
    """The options of a dataclass in order; a field that is itself a dataclass of options stands for all of them."""
    types = get_type_hints(kind)
    for one in fields(kind):
        if is_dataclass(inner := types[one.name]):
            yield from options_of(inner)  # type: ignore[arg-type]
        elif "option" in one.metadata:
            yield one


def flag_of(one: Field[Any]) -> str:
    """An option as it is written on a command line; an argument by its name in capitals."""
    if about(one).argument:
        return one.name.upper()
    return (about(one).flag or "--" + one.name.replace("_", "-")).partition("/")[0]


def former_flags(kind: type) -> dict[str, str]:
    """The flag of today for each former one, both without dashes."""
    return {name: flag_of(one).removeprefix("--") for one in options_of(kind) for name in about(one).former}


def check_ranges(values: Any, kind: type) -> None:
    """Check every number of `values` that a dataclass of options names; None is a number that was not chosen.

    Raises ParameterError with the option's flag.
    """
    for one in options_of(kind):
        value, allowed = getattr(values, one.name, None), about(one).range
        if value is not None and allowed is not None and not allowed.least <= value <= allowed.most:  # also refuses NaN
            written = f"{value:,}" if isinstance(value, int) else f"{value:g}"
            raise ParameterError(one.name, f"{flag_of(one)} is {written}; choose {allowed.words}.")
