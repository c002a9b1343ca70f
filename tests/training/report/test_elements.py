"""Elements of a page: every character shows, texts of short lines stand in columns, tables fit a phone."""

import pytest

from tests.training.html_reader import Node, read_html
from training.report.elements import element, escape, passage, table


@pytest.mark.parametrize("character", [chr(code) for code in (*range(0x20), *range(0x7F, 0xA1), 0xD800, 0xFFFE)])
def test_every_character_shows_as_one_that_a_page_may_hold(character: str) -> None:
    written = escape(character)
    assert read_html(element("p", character)).text == str(written)
    assert len(written) == 1
    assert written in "\n\t" or written.isprintable() or written in "\u00a0\ufffe"
    written.encode("utf-8")


NAMES = "\n".join(f"name {at}" for at in range(40))


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        (NAMES, True),
        (f"{NAMES}\n{'long ' * 9}", True),
        ("abc é明 1.\n\n" * 99, True),
        ("a\nb\nc", False),
        ("A line that is longer than a column.\n" * 20, False),
    ],
)
def test_texts_of_short_lines_stand_in_columns(text: str, columns: bool) -> None:
    (shown,) = read_html(passage(text, scrolls=True)).all("div", "long")[0].all("pre")
    assert ("lines" in shown.styles()) == columns
    assert shown.text == text


@pytest.mark.parametrize(("length", "tiny"), [(10, True), (11, False)])
def test_lines_of_ten_characters_stand_in_more_columns(length: int, tiny: bool) -> None:
    (shown,) = read_html(passage(f"{'a' * length}\n" * 99)).all("pre")
    assert ("tiny" in shown.styles()) == tiny


def test_a_cell_says_of_which_column_it_is_where_rows_are_cards() -> None:
    row = read_html(table(("name", "value", "kind"), [("a", "1", "")])).all("tr")[1]
    assert [(cell.attributes["data-label"], cell.text) for cell in row.all("td")] == [("value", "1"), ("kind", "")]
    assert "none" in row.all("td")[1].styles()


def test_a_column_is_set_flush_right_where_it_holds_numbers() -> None:
    written = read_html(table(("name", "value", "mixed"), [("a", "1,000.5", "1"), ("b", "–", "x")]))
    assert [
        ["number" in cell.styles() for cell in row.children if isinstance(cell, Node)] for row in written.all("tr")
    ] == [[False, True, False]] * 3
