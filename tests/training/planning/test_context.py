"""The characters a plain text's model reads before an empty prompt: the end of the train part, up to a line break."""

import pytest

from model.text.tokenizer import Tokenizer
from training.planning.context import KEPT, SOUGHT, context_of

LINES = "".join(f"line {number}: näher\n" for number in range(200))


@pytest.mark.parametrize("characters", [LINES, LINES.replace("ä", "a")])
def test_it_is_the_last_characters_up_to_a_line_break(characters: str) -> None:
    tokenizer = Tokenizer.learn([LINES.replace("ä", "")])  # where there is one, ä is spelt in bytes
    context = context_of(tokenizer.encode(characters + "half a li"), tokenizer)
    assert context == characters[-KEPT:]
    assert len(context) == KEPT


def test_a_short_text_is_its_own_and_one_without_a_near_line_break_has_none() -> None:
    tokenizer = Tokenizer("\nab")
    assert context_of(tokenizer.encode("ab\nb"), tokenizer) == "ab\n"
    assert context_of(tokenizer.encode("ab\n" + "a" * SOUGHT), tokenizer) == ""
    assert context_of(tokenizer.encode(""), tokenizer) == ""
    assert context_of(Tokenizer("ab").encode("abab"), Tokenizer("ab")) == ""
