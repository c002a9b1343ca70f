"""`python -m examples.translation` learns English to French and prints the README's table."""

import sys
from itertools import chain
from pathlib import Path
from typing import Annotated

import typer

from examples.running import QUICK as MINIATURE
from examples.running import errors_told, need
from examples.translation.corpus import FILE, Corpus, is_known, read
from examples.translation.recipe import QUICK, Size, by_rivals, by_unroll, loaded, trained
from examples.translation.table import HEAD, row, shown

program = typer.Typer(add_completion=False, rich_markup_mode=None)
OUT = Path("runs/translation")
SHOWN = 100  # every so many test sentences one is shown
FEW = 10  # sentences to tune and test on with --quick
FEW_LEARNT = 1_000  # sentences to learn then


@program.command()
@errors_told()
def table(
    pairs: Annotated[Path, typer.Option(help="File of pairs: English, a tabulator, French.")] = OUT / FILE,
    out: Annotated[Path, typer.Option(help="Folder of the pieces, the corpus and the run.")] = OUT,
    epochs: Annotated[float, typer.Option(help="Passes over the pairs.", min=0.001)] = Size().epochs,
    seed: Annotated[int, typer.Option(help="Of the order of the pairs and of training.")] = 1,
    evaluate: Annotated[
        bool, typer.Option("--evaluate", help="Train nothing: the model is in the folder already.")
    ] = False,
    quick: Annotated[
        bool,
        typer.Option("--quick", help="Tiny model, few sentences, a folder of their own: to see that all works."),
    ] = False,
) -> None:
    """Learn to translate, translate the sentences held out, and print the scores beside those of the rivals."""
    corpus = read(pairs)
    need("nltk", "sacrebleu", "sentencepiece", "sklearn")
    if not is_known(pairs):
        typer.echo(f"{pairs} is not the file that the README's figures are from; these will differ.", err=True)
    folder, size = (out / MINIATURE, QUICK) if quick else (out, Size(epochs=epochs))
    _translate(corpus, folder, size, seed, evaluate, quick)


def _translate(corpus: Corpus, out: Path, size: Size, seed: int, evaluate: bool, quick: bool) -> None:
    if quick:
        corpus = Corpus(corpus.train[:FEW_LEARNT], corpus.validation[:FEW], corpus.test[:FEW])
    translator = loaded(out) if evaluate else trained(corpus, out, size, seed)
    typer.echo(HEAD)
    for outcome in chain(by_rivals(corpus, quick), by_unroll(translator, corpus, quick)):
        typer.echo(row(outcome))
        sys.stdout.flush()
    typer.echo("\n" + "\n".join(shown(corpus.test, outcome, SHOWN if not quick else FEW // 4)))


if __name__ == "__main__":
    program()
