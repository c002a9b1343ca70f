"""Escapes on a command line mean what they mean in a program."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.text.escapes import unescaped


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (r"ROMEO:\n", "ROMEO:\n"),
        (r"a\tb\r\n", "a\tb\r\n"),
        (r"\\n", r"\n"),
        (r"\x41\u00e9\U0001F600", "Aé😀"),
        (r"\d+ \ud800 \q", r"\d+ \ud800 \q"),
        (r"\"\'", "\"'"),
        ("end\\", "end\\"),
    ],
)
def test_escapes_are_read(typed: str, meant: str) -> None:
    assert unescaped(typed) == meant


@given(st.text())
def test_every_text_can_be_typed(text: str) -> None:
    assert unescaped(text.replace("\\", r"\\").replace("\n", r"\n")) == text
