"""`python -m examples.speech` has sentences read and heard, ranks the hypotheses and prints the table."""

from pathlib import Path
from typing import Annotated

import typer

from examples.running import QUICK as MINIATURE
from examples.running import RecipeError, errors_told, need
from examples.speech.recipe import QUICK, Plan, run
from examples.speech.table import head, leads, rows, settings

program = typer.Typer(add_completion=False, rich_markup_mode=None)
BOOK = Path("../shared/corpora/war-and-peace.txt")


@program.command()
@errors_told()
def table(
    book: Annotated[Path, typer.Argument(help="War and Peace, or another English book, as plain text.")] = BOOK,
    out: Annotated[Path, typer.Option(help="Folder of what is heard, of the models and the run.")] = Path(
        "runs/speech"
    ),
    processes: Annotated[int, typer.Option(help="Processes that listen.", min=1)] = 1,
    sentences: Annotated[int, typer.Option(help="Sentences to test on; each voice reads all.", min=1)] = Plan().test,
    one_decoder: Annotated[
        bool, typer.Option("--one-decoder", help="Leave out the trigram of the book in the decoder: half the time.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Of training.")] = 1,
    quick: Annotated[
        bool,
        typer.Option("--quick", help="Tiny model, few sentences, a folder of their own: to see that all works."),
    ] = False,
) -> None:
    """Hear sentences of a book's held-out places, rank what was heard by models of the rest, print the table."""
    if not book.is_file():
        raise RecipeError(f"There is no book at {book}; the README says where to get it.")
    need("pocketsphinx", "rapidfuzz", "scipy")
    plan = QUICK if quick else Plan(sentences)
    if one_decoder:
        plan = plan._replace(decoders=plan.decoders[:1])
    folder = out / MINIATURE if quick else out
    outcome = run(book, folder, plan, seed, processes, lambda line: typer.echo(line, err=True))
    typer.echo("\n".join([head(outcome), *rows(outcome), "", *leads(outcome), "", *settings(outcome)]))


if __name__ == "__main__":
    program()
