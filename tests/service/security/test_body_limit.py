"""Values are counted as JSON has them, wherever the bytes are cut."""

import json
from pathlib import Path
from typing import Any

import httpx
from hypothesis import given
from hypothesis import strategies as st

from service.security.body_limit import MOST_VALUES, ValueCount
from service.settings import Settings
from tests.service.serving import serving

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(alphabet='a,[]{}:"\\\né', max_size=20),
    lambda inner: (
        st.lists(inner, max_size=5) | st.dictionaries(st.text(alphabet='a,[{"\\', max_size=5), inner, max_size=5)
    ),
    max_leaves=30,
)


def counted(value: Any) -> int:
    """Commas and opening brackets of a value in JSON: an opening, and a comma for each member but the first."""
    if isinstance(value, list | dict):
        members = list(value.values()) if isinstance(value, dict) else value
        return 1 + max(0, len(members) - 1) + sum(map(counted, members))
    return 0


@given(JSON, st.lists(st.integers(0, 300), max_size=6), st.booleans())
def test_values_are_counted_outside_of_strings_wherever_the_bytes_are_cut(
    value: Any, cuts: list[int], ascii_only: bool
) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only).encode()
    count = ValueCount()
    before = 0
    for cut in [*sorted(cuts), len(text)]:
        count.add(text[before:cut])
        before = max(before, cut)
    assert count.values == counted(value)


def test_the_most_values_are_taken_and_one_more_is_not(checkpoint_folder: Path) -> None:
    def ask(ids: int) -> httpx.Response:
        return running.client.post("/tokenize", json={"prompt": "a,[{" * 1000, "x": [1] * ids})

    opened = 3  # the object, its second member, and the list
    with serving(Settings(checkpoint=checkpoint_folder)) as running:
        assert ask(MOST_VALUES - opened + 1).status_code == 200
        refused = ask(MOST_VALUES - opened + 2)
    assert refused.status_code == 413
    assert refused.json()["error"]["message"].startswith(
        "The body has more than 200,000 values; send long prompts as text"
    )
