"""The verb `serve`: a flag and an environment variable for every setting; the flag wins."""

import re
import shlex
from dataclasses import dataclass, fields
from functools import partial
from typing import TYPE_CHECKING, Any

import typer

from model.command_line.from_options import command_of
from model.command_line.options import about, option
from service.environment import check_environment
from service.process.address_space import check_address_space
from service.settings import ENVIRONMENT, Settings, variable_of

if TYPE_CHECKING:
    from service.app import Application
    from service.inference.served_model import ServedModel


@dataclass(frozen=True, kw_only=True)
class ServeOptions:
    """Every option of `unroll serve`: the settings, whether to show them only, and whether to open the page."""

    settings: Settings
    print_config: bool = option(
        False,
        "Show the settings in effect and where each comes from, and end.",
        flag="--print-config",
        typer={"envvar": None},
    )
    open: bool = option(
        False,
        "Open the page in a browser, once the server answers.",
        flag="--open",
        typer={"envvar": None},
    )


def _serve(context: typer.Context, options: ServeOptions) -> None:
    """Serve a model over HTTP, or several, in the dialect of OpenAI's completions.

    Every flag can be given as an environment variable instead; the flag wins.

    Examples:

      unroll serve

      unroll serve runs/book/best --port 9000

      unroll serve shakespeare names=runs/names/best

      unroll serve --models runs

      UNROLL_PORT=9000 unroll serve runs/book/best
    """
    check_environment()
    if options.print_config:
        _print(options.settings, context)
        return
    check_address_space()
    from service.start import run

    settings = options.settings
    keys = settings.api_keys is not None or settings.api_keys_file is not None
    run(settings, partial(_announce, keys=keys, page=settings.page, opened=options.open))


serve = command_of(ServeOptions, _serve, ENVIRONMENT)


SOURCES = {"COMMANDLINE": "flag", "ENVIRONMENT": "environment"}  # by the names that typer has


def _print(settings: Settings, context: typer.Context) -> None:
    """A line for each setting: its variable, its value, and where that comes from."""
    lines = []
    for one in fields(settings):
        value = getattr(settings, one.name)
        value = " ".join(value) if isinstance(value, tuple) else value
        shown = "" if value is None else "***" if about(one).secret else str(value)
        source = context.get_parameter_source(one.name)
        lines.append((f"{variable_of(one.name)}={shown}", SOURCES.get(getattr(source, "name", ""), "default")))
    width = max(len(line) for line, _ in lines)
    _write(f"{line:{width}}  # {source}" for line, source in lines)


PROMPT = "Once upon a time"
HERE = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}  # where a server of all addresses is found on its own machine
ANY_ADDRESS = re.compile(r"(?<=://)(0\.0\.0\.0|\[::\])(?=:)")


def _announce(application: "Application", url: str, keys: bool, page: bool, opened: bool) -> None:
    """Tell a person what is served and what to try.

    keys: whether requests need one. page: whether there is one for people. opened: whether to open it.
    """
    models = [entry.served for entry in application.registry if entry.served is not None]
    path = url.removeprefix("unix:")
    here = ANY_ADDRESS.sub(lambda match: HERE[match[0]], url)
    curl = f"curl -N {here}" if path == url else f"curl -N --unix-socket {shlex.quote(path)} http://localhost"
    key = "-H 'Authorization: Bearer YOUR-KEY' " if keys else ""
    prompt = PROMPT if models and models[0].knows(PROMPT) else ""  # of a Chinese model, none of its letters
    _write(
        (
            f"Serving {_served(application, models)}, at {url}",
            f"{f'Open {here} in a browser, read' if page else 'Read'} about it at {here}/docs, or try it:"
            if path == url
            else "Try it:",
            "",
            f"  {curl}/v1/completions {key}-H 'Content-Type: application/json' "
            f'-d \'{{"prompt": "{prompt}", "max_tokens": 400, "stream": true}}\'',
            "",
            "Press Ctrl+C to stop.",
        )
    )
    if opened:
        from service.playground.browser import open_page

        open_page(here)


MOST_NAMED = 8  # models that are named


def _served(application: "Application", models: "list[ServedModel]") -> str:
    """What is served, in words."""
    names = [entry.name for entry in application.registry]
    if len(names) == 1 and models:
        return f"{names[0]}, {models[0].facts.parameters:,} parameters in {models[0].decoder.where}"
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return f"{len(names)} models, {', '.join(names[:MOST_NAMED])}{more}" if names else "no model yet"


def _write(lines: Any) -> None:
    from model.command_line.console import TerminalConsole

    console = TerminalConsole()
    for line in lines:
        console.print(line, soft_wrap=True)
