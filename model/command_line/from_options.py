"""A command of the terminal made from a dataclass of options, and called with that dataclass."""

import inspect
from collections.abc import Callable
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

import typer

from model.command_line.options import about

Options = TypeVar("Options")


def command_of(
    kind: type[Options], verb: Callable[[typer.Context, Options], None], variables: str | None = None
) -> Callable[..., None]:
    """The verb as typer reads it, with a parameter for each option of a dataclass.

    variables: what the names of environment variables begin with; None = the options have none.
    """
    context = inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
    parameters = [context, *_parameters(kind, variables)]

    def called(context: typer.Context, **given: Any) -> None:
        verb(context, make(kind, given))

    called.__doc__ = verb.__doc__
    called.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    called.__annotations__ = {one.name: one.annotation for one in parameters}
    return called


def make(kind: type[Options], given: dict[str, Any]) -> Options:
    """The dataclass with the values of a command line."""
    types = get_type_hints(kind)
    values: dict[str, Any] = {}
    for one in fields(kind):  # type: ignore[arg-type]
        if is_dataclass(inner := types[one.name]):
            values[one.name] = make(inner, given)  # type: ignore[arg-type]
        elif one.name in given:
            values[one.name] = tuple(given[one.name] or ()) if get_origin(inner) is tuple else given[one.name]
    return kind(**values)


def path(given: str) -> Path:
    """A path that was typed. An empty text, such as a variable of the shell that is not set, is not the folder "."."""
    return Path(word(given))


def word(given: str) -> str:
    """A path as the text that was typed, "-" included."""
    if not given:
        raise typer.BadParameter("an empty text is not a path; name a file or a folder, or . for this one.")
    return given


def typer_option(one: Field[Any], variables: str | None = None, type_: Any = None) -> Any:
    """An option as typer takes it; an option of another verb that means the same may take it, too.

    type_: of its values, which say whether they are paths; arguments are paths, too.
    """
    said = about(one)
    shown: dict[str, Any] = {"help": said.help, "metavar": said.metavar}
    if Path in (type_, *get_args(type_)):
        shown |= {"parser": path, "metavar": said.metavar or (None if said.argument else "PATH")}
    elif said.argument and str in (type_, *get_args(type_)):
        shown["parser"] = word
    if variables is not None:
        shown["envvar"] = variables + said.variable_of(one.name)
    if said.secret:
        shown["show_default"] = False
    if said.shown is not None:
        shown["show_default"] = said.shown
    shown.update(said.typer)
    if said.argument:
        return typer.Argument(**shown)
    return typer.Option(*([said.flag] if said.flag else []), rich_help_panel=said.panel, **shown)


def _parameters(kind: type, variables: str | None) -> list[inspect.Parameter]:
    """A parameter for each option, in the order of the fields, those of a dataclass within where its field is."""
    types = get_type_hints(kind)
    made = []
    for one in fields(kind):
        if is_dataclass(inner := types[one.name]):
            made += _parameters(inner, variables)  # type: ignore[arg-type]
        elif "option" in one.metadata:
            type_, default = inner, inspect.Parameter.empty if one.default is MISSING else one.default
            if get_origin(inner) is tuple:
                several = list[get_args(inner)[0]]  # type: ignore[misc, valid-type]
                type_, default = (several, default) if default is inspect.Parameter.empty else (several | None, None)
            annotation = Annotated[type_, typer_option(one, variables, inner)]  # type: ignore[valid-type]
            made.append(
                inspect.Parameter(one.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
            )
    return made
