"""The report's colours are those of the page, and text stands out on every one of them."""

import re
from pathlib import Path

import pytest

from training.report.held_out_page import LEVELS
from training.report.style import DARK, LIGHT


def luminance(colour: str) -> float:
    """Relative luminance, WCAG 2.2."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    bright, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


PAGE_STYLE = Path(__file__).parents[3] / "service" / "playground" / "static" / "page.css"


def test_its_colours_and_variables_are_those_of_the_page() -> None:
    written = re.findall(r"--(\w+): light-dark\((#\w+), (#\w+)\)", PAGE_STYLE.read_text("utf-8"))
    page = {name: colours for name, *colours in written}
    assert {name: [LIGHT[name], DARK[name]] for name in LIGHT} == {name: page[name] for name in LIGHT}
    assert LIGHT.keys() == DARK.keys()
    steps = re.search(r"STEPS = \[(.*)\]", (PAGE_STYLE.parent / "text_view.js").read_text("utf-8"))
    assert steps is not None
    assert tuple(map(float, steps[1].split(","))) == LEVELS


@pytest.mark.parametrize("colours", [LIGHT, DARK], ids=["light", "dark"])
def test_text_stands_out_on_every_colour(colours: dict[str, str]) -> None:
    for ground in ("bg", "card", *(f"l{at}" for at in range(1, 7))):
        assert contrast(colours["ink"], colours[ground]) >= 4.5, ground
    for ink in ("soft", "accent"):
        assert min(contrast(colours[ink], colours["bg"]), contrast(colours[ink], colours["card"])) >= 4.5, ink
    for line in ("rule", "curve"):  # train and validation
        assert contrast(colours[line], colours["card"]) >= 3, line
    steps = [luminance(colours[name]) for name in ("card", *(f"l{at}" for at in range(1, 7)))]
    assert steps == sorted(steps, reverse=colours is LIGHT)
