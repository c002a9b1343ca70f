"""The pages say of each recipe what its own page says: the list of recipes, and docs/figures.md."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RECIPES = sorted(page.parent.name for page in (ROOT / "examples").glob("*/README.md"))
FIGURE = re.compile(r"(?:\d[\d,]*\.\d+|\d{1,3}(?:,\d{3})+)(?!\d| M)")  # but millions, which are rounded


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("page", ["examples/README.md", "docs/figures.md"])
def test_the_figures_of_a_recipe_are_those_of_its_own_page(page: str, recipe: str) -> None:
    own = set(FIGURE.findall((ROOT / "examples" / recipe / "README.md").read_text("utf-8")))
    rows = [line for line in (ROOT / page).read_text("utf-8").splitlines() if f"{recipe}/README.md)" in line]
    found = [figure for row in rows for figure in FIGURE.findall(row)]
    assert len(found) >= 3
    assert [figure for figure in found if figure not in own] == []
