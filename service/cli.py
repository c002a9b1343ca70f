"""The verb `serve`: a flag and an environment variable for every setting; the flag wins."""

import inspect
from collections.abc import Callable
from dataclasses import fields
from typing import Annotated, Any, get_type_hints

import typer

from service.environment import check_environment, port_number
from service.settings import Settings, flag_of, variable_of


def with_settings(verb: Callable[..., None]) -> Callable[..., None]:
    """The verb with a parameter for each setting, for typer to read; the verb gets them as `settings`."""
    types = get_type_hints(Settings)
    parameters = [
        inspect.Parameter(
            one.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=one.default,
            annotation=Annotated[types[one.name], _option(one.name, one.default, one.metadata)],
        )
        for one in fields(Settings)
    ]
    own = [one for one in inspect.signature(verb).parameters.values() if one.name != "settings"]
    names = {one.name for one in parameters}

    def called(**given: Any) -> None:
        check_environment()
        settings = Settings(**{name: given.pop(name) for name in names})
        verb(settings=settings, **given)

    called.__doc__ = verb.__doc__
    called.__signature__ = inspect.Signature([*own, *parameters])  # type: ignore[attr-defined]
    called.__annotations__ = {one.name: one.annotation for one in [*own, *parameters]}
    return called


def _option(name: str, default: Any, about: Any) -> Any:
    """A flag and its environment variable; the checkpoint is an argument."""
    described: dict[str, Any] = {"envvar": variable_of(name), "help": about["description"].replace("[", "\\[")}
    if name == "checkpoint":
        return typer.Argument(show_default="the Shakespeare model that comes with Unroll", **described)
    if name == "port":
        described["parser"] = port_number
        described["metavar"] = "INTEGER"
    if about["secret"]:
        described["show_default"] = False
    flag = flag_of(name)
    both = f"{flag}/--no-{flag[2:]}" if isinstance(default, bool) else flag
    return typer.Option(both, rich_help_panel=about["panel"], **described)


@with_settings
def serve(
    *,
    context: typer.Context,
    settings: Settings,
    print_config: Annotated[
        bool, typer.Option("--print-config", help="Show the settings in effect and where each comes from, and end.")
    ] = False,
) -> None:
    """Serve a model over HTTP, in the dialect of OpenAI's completions.

    Every flag can be given as an environment variable instead; the flag wins.

    Examples:

      unroll serve

      unroll serve runs/book/best --port 9000

      UNROLL_PORT=9000 unroll serve runs/book/best
    """
    if print_config:
        _print(settings, context)
        return
    from service.server import run

    run(settings, _announce)


SOURCES = {"COMMANDLINE": "flag", "ENVIRONMENT": "environment"}  # by the names that typer has


def _print(settings: Settings, context: typer.Context) -> None:
    """A line for each setting: its variable, its value, and where that comes from."""
    lines = []
    for one in fields(settings):
        value = getattr(settings, one.name)
        shown = "" if value is None else "***" if one.metadata["secret"] else str(value)
        source = context.get_parameter_source(one.name)
        lines.append((f"{variable_of(one.name)}={shown}", SOURCES.get(getattr(source, "name", ""), "default")))
    width = max(len(line) for line, _ in lines)
    _write(f"{line:{width}}  # {source}" for line, source in lines)


PROMPT = "Once upon a time"


def _announce(app: Any, url: str) -> None:
    """Tell a person what is served and what to try."""
    model = app.state.model
    prompt = PROMPT if model.knows(PROMPT) else ""  # of a Chinese model, none of its letters
    _write(
        (
            f"Serving {model.name}, {model.parameters:,} parameters in {model.decoder.where}, at {url}",
            f"Read about it at {url}/docs, or try it:",
            "",
            f"  curl -N {url}/v1/completions -H 'Content-Type: application/json' "
            f'-d \'{{"prompt": "{prompt}", "max_tokens": 400, "stream": true}}\'',
            "",
            "Press Ctrl+C to stop.",
        )
    )


def _write(lines: Any) -> None:
    from model.console import TerminalConsole

    console = TerminalConsole()
    for line in lines:
        console.print(line, soft_wrap=True)
