"""The recipe for molecules: its n-gram, its split and its table; in miniature all of it."""

import re
from itertools import product
from math import exp
from pathlib import Path

import pytest
from typer.testing import CliRunner

from examples.molecules.__main__ import program
from examples.molecules.ngram import LONGEST, CharacterGrams
from examples.molecules.recipe import HELD_OUT, QUICK, WHOLE, is_held_out
from examples.molecules.table import HEAD, PUBLISHED, row

PAGE = (Path(__file__).parents[2] / "examples" / "molecules" / "README.md").read_text("utf-8")
WORDS = ["ab", "ab", "aab", "ba", "c"] * 3


def chance(grams: CharacterGrams, word: str, order: int) -> float:
    return exp(-grams.nats([word], order, 0.5) * (len(word) + 1))


@pytest.mark.parametrize("order", [3, 6, LONGEST])
def test_the_n_gram_s_probabilities_sum_to_one(order: int) -> None:
    grams = CharacterGrams(WORDS)
    words = ["".join(word) for length in range(7) for word in product("abc", repeat=length)]
    assert sum(chance(grams, word, order) for word in words) == pytest.approx(1, abs=2e-4)
    assert chance(grams, "ab", LONGEST) > chance(grams, "ab", 2) > chance(grams, "ab", 1)


def test_counts_without_a_prior_are_shares() -> None:
    grams = CharacterGrams(WORDS)
    assert grams.nats(["c"], LONGEST, 1e-12) * 2 == pytest.approx(1.6094379, abs=1e-6)  # ln 5: a fifth of the words
    assert grams.nats(["ab"], 1, 1e-12) * 3 == pytest.approx(3.5199, abs=1e-3)  # 5/15 a, 4/15 b, … of characters alone


@pytest.mark.parametrize("order", [1, 2, LONGEST])
def test_the_n_gram_draws_as_it_says(order: int) -> None:
    grams = CharacterGrams(WORDS)
    drawn = grams.draw(20_000, order, 0.5, seed=3)
    for word in ("ab", "aab", "ba", "c"):
        assert drawn.count(word) / len(drawn) == pytest.approx(chance(grams, word, order), abs=0.012)
    assert grams.draw(50, order, 0.5, seed=4) == grams.draw(50, order, 0.5, seed=4) != drawn[:50]


def test_what_is_held_out_follows_from_a_molecule_alone() -> None:
    held_out = [is_held_out(f"C{number}") for number in range(20_000)]
    assert sum(held_out) == pytest.approx(20_000 / HELD_OUT, rel=0.15)
    assert held_out[:100] == [is_held_out(f"C{number}") for number in range(100)]


def test_the_readme_has_the_published_rows_and_the_command_of_the_recipe() -> None:
    rows = PAGE.split(HEAD)[1].split("\n\n")[0].strip().splitlines()
    assert {row(name, measures) for name, measures in PUBLISHED.items()} <= set(rows)
    assert len([one for one in rows if one.startswith("| **Unroll** |")]) == 1
    assert " ".join(WHOLE.options) in re.sub(r" \\\n\s+", " ", PAGE)


@pytest.mark.examples
@pytest.mark.timeout(300)  # a quarter of a minute of a core, which a busy machine may have to share
def test_the_recipe_runs_in_miniature(tmp_path: Path) -> None:
    result = CliRunner().invoke(program, ["--quick", "--out", str(tmp_path)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    rows = [line.strip("| ").split(" | ") for line in result.output.splitlines() if line.startswith("|")][2:]
    assert len(rows) == 3 + len(PUBLISHED)
    figures = {name: list(map(float, measures)) for name, *measures in rows}
    ours, bound = figures["Unroll"], figures["training molecules themselves"]
    assert 0.02 < ours[0] < bound[0] == 1  # hardly learnt, but some are molecules
    assert ours[2] > bound[2] > 0  # further from the test molecules
    assert bound[5] == 1  # the filters that the set was made with
    assert bound[6] == 0  # none of them is new
    assert result.output.count("on held-out molecules: ") == len(QUICK.orders) * len(QUICK.weights)
    only_drawn = ["--quick", "--out", str(tmp_path), "--model", str(tmp_path / "quick" / "run" / "best")]
    again = CliRunner().invoke(program, only_drawn, catch_exceptions=False)
    assert [line for line in again.output.splitlines() if line.startswith("| Unroll")] == [
        line for line in result.output.splitlines() if line.startswith("| Unroll")
    ]
