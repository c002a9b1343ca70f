"""The verb `unroll compare`."""

from pathlib import Path

import typer

from model.command_line.console import TerminalConsole
from model.command_line.from_options import command_of
from model.commands.common import print_json
from model.errors import ParameterError
from training.commands.shared import require
from training.comparison.options import CompareOptions


def _compare(context: typer.Context, options: CompareOptions) -> None:
    """Compare cells on a corpus, or two checkpoints on a text.

    Networks of equal parameters are trained for equal steps and for equal time, and measured: bits per character,
    speed and memory, how far back they remember, and how steady they learn. The plan is printed first; the same
    command goes on with a comparison that was ended. Of two checkpoints it says which predicts the text better, by how
    much, and how sure that is.

    Examples:

      unroll compare book.txt

      unroll compare book.txt --cells gru,lstm --minutes 5

      unroll compare book.txt --steps 500 --seeds 1 --out runs/small

      unroll compare runs/book runs/other-book/best new-text.txt
    """
    if _are_checkpoints(options.names):
        _checkpoints(context, options)
        return
    require("torch")
    from training.comparison.compare import compare_cells

    console = TerminalConsole(stderr=options.as_json)
    written = compare_cells(options, console)
    if options.as_json:
        print_json(written)


compare = command_of(CompareOptions, _compare)


def _are_checkpoints(names: tuple[str, ...]) -> bool:
    """Whether the first two names are checkpoints or runs, not parts of a corpus.

    Raises ParameterError where one of them alone is: a folder that holds weights is no text.
    """
    from model.checkpoint import CONFIG, WEIGHTS

    def has(name: str, *files: str) -> bool:
        return any(all((folder / file).is_file() for file in files) for folder in (Path(name), Path(name) / "best"))

    first = names[:2]
    if len(first) == 2 and all(has(name, CONFIG) for name in first):
        return True
    if found := [name for name in first if has(name, CONFIG, WEIGHTS)]:
        other = "".join(f", and {name} is none" for name in first if name not in found)
        raise ParameterError(
            "names",
            f"{found[0]} is a checkpoint{other}; name two checkpoints and then the text to compare them on, or a "
            "corpus alone.",
        )
    return False


def _checkpoints(context: typer.Context, options: CompareOptions) -> None:
    from training.comparison.paired import compare_checkpoints, read_text

    others = {"cells", "minutes", "steps", "seeds", "parameters", "precision", "split", "out"}
    given = {name for name in others if context.get_parameter_source(name).name == "COMMANDLINE"}  # type: ignore[union-attr]
    if given:
        flags = ", ".join(sorted(f"--{name}" for name in given))
        raise ParameterError(given.pop(), f"Two checkpoints are compared as they are; leave out {flags}.")
    a, b, *text = options.names
    if not text:
        raise ParameterError("names", "Two checkpoints are compared on a text; name it after them.")
    result = compare_checkpoints(Path(a), Path(b), read_text(tuple(text), options.encoding))
    if options.as_json:
        print_json({"a": a, "b": b, **result.to_json()})
        return
    console = TerminalConsole()
    console.rows([("A", f"{a}: {result.bits_a:.4f} bits per character"), ("B", f"{b}: {result.bits_b:.4f}")])
    low, high = result.interval
    where = f"B − A is {result.difference:+.4f} bits per character, with 95 % confidence {low:+.4f} to {high:+.4f}"
    verdict = {
        "a": "A predicts this text better",
        "b": "B predicts this text better",
        None: "This text does not tell which is better",
    }[result.better]
    console.say(
        f"{verdict}: {where} ({result.characters:,} characters in {result.blocks:,} blocks of "
        f"{result.block_characters}, drawn 2,000 times)."
    )
