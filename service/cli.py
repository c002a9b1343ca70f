"""The verb `serve`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from service.settings import ENVIRONMENT, Arithmetic, Device, LogLevel, Settings

LIMITS, MODEL = "Limits", "Model"


def option(name: str, description: str, panel: str | None = None) -> Any:
    """A flag that its environment variable stands in for."""
    flag, variable = "--" + name.replace("_", "-"), ENVIRONMENT + name.upper()
    return typer.Option(flag, envvar=variable, help=description, rich_help_panel=panel)


def serve(
    checkpoint: Annotated[
        Path | None,
        typer.Argument(
            envvar=ENVIRONMENT + "CHECKPOINT",
            help="Folder of the model to serve.",
            show_default="the Shakespeare model that comes with Unroll",
        ),
    ] = None,
    host: Annotated[str, option("host", "Address to listen on.")] = Settings.host,
    port: Annotated[int, option("port", "TCP port; 0 takes a free one.")] = Settings.port,
    grace_seconds: Annotated[
        float, option("grace_seconds", "Seconds running texts have to end after the signal to stop.")
    ] = Settings.grace_seconds,
    stream_interval: Annotated[
        float, option("stream_interval", "Milliseconds between events of a stream; 0 sends each character on its own.")
    ] = Settings.stream_interval,
    log_level: Annotated[LogLevel, option("log_level", "Least important messages to write.")] = Settings.log_level,
    name: Annotated[
        str | None,
        option(
            "name", "What requests call the model. \\[default: its folder, or a run's folder for best and last]", MODEL
        ),
    ] = None,
    arithmetic: Annotated[
        Arithmetic, option("arithmetic", "int8 is fast, fp32 rounds nothing.", MODEL)
    ] = Settings.arithmetic,
    device: Annotated[Device, option("device", "cpu, or cuda for a GPU by PyTorch.", MODEL)] = Settings.device,
    threads: Annotated[int, option("threads", "Threads that generate, on a core each.", MODEL)] = Settings.threads,
    max_rows: Annotated[int, option("max_rows", "Texts written side by side.", LIMITS)] = Settings.max_rows,
    max_waiting: Annotated[
        int, option("max_waiting", "Texts that may wait for a place.", LIMITS)
    ] = Settings.max_waiting,
    max_body_bytes: Annotated[
        int, option("max_body_bytes", "Bytes a request's body may have.", LIMITS)
    ] = Settings.max_body_bytes,
    max_prompt_characters: Annotated[
        int, option("max_prompt_characters", "Characters a prompt may have.", LIMITS)
    ] = Settings.max_prompt_characters,
    max_held_characters: Annotated[
        int, option("max_held_characters", "Characters all prompts held at once may have.", LIMITS)
    ] = Settings.max_held_characters,
    max_work: Annotated[
        int, option("max_work", "Characters one request may ask for, times reported likeliest ones and one.", LIMITS)
    ] = Settings.max_work,
    prefix_cache_bytes: Annotated[
        int, option("prefix_cache_bytes", "Memory for the states after prompts used before; 0 keeps none.", LIMITS)
    ] = Settings.prefix_cache_bytes,
    keep_alive_seconds: Annotated[
        float, option("keep_alive_seconds", "Seconds of silence before a stream says that it lives.")
    ] = Settings.keep_alive_seconds,
    deadline_seconds: Annotated[
        float, option("deadline_seconds", "Seconds a request may take, waiting included; 0 sets no limit.", LIMITS)
    ] = Settings.deadline_seconds,
) -> None:
    """Serve a model over HTTP, in the dialect of OpenAI's completions.

    Every flag can be given as an environment variable instead; the flag wins.

    Examples:

      unroll serve

      unroll serve runs/book/best --port 9000

      UNROLL_PORT=9000 unroll serve runs/book/best
    """
    settings = Settings(
        checkpoint=checkpoint,
        name=name,
        host=host,
        port=port,
        arithmetic=arithmetic,
        device=device,
        threads=threads,
        max_rows=max_rows,
        max_waiting=max_waiting,
        max_body_bytes=max_body_bytes,
        max_prompt_characters=max_prompt_characters,
        max_held_characters=max_held_characters,
        max_work=max_work,
        prefix_cache_bytes=prefix_cache_bytes,
        keep_alive_seconds=keep_alive_seconds,
        deadline_seconds=deadline_seconds,
        stream_interval=stream_interval,
        grace_seconds=grace_seconds,
        log_level=log_level,
    )
    from service.server import run

    run(settings, _announce)


def _announce(app: Any, url: str) -> None:
    """Tell a person what is served and what to try."""
    from rich.console import Console

    model = app.state.model
    lines = (
        f"Serving {model.name}, {model.parameters:,} parameters in {model.decoder.where}, at {url}",
        f"Read about it at {url}/docs, or try it:",
        "",
        f"  curl -N {url}/v1/completions -H 'Content-Type: application/json' "
        '-d \'{"prompt": "Once upon a time", "max_tokens": 400, "stream": true}\'',
        "",
        "Press Ctrl+C to stop.",
    )
    console = Console(highlight=False, markup=False, soft_wrap=True)
    for line in lines:
        console.print(line)
