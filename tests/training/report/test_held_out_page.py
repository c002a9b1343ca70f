"""The coloured page is the held-out text, and its surprise is the network's own log-probability."""

import math
from dataclasses import replace

import numpy as np
import pytest

from model.checkpoint import Checkpoint
from model.decoding.decoder import Decoder
from model.decoding.step_weights import Quantization
from model.errors import CorpusError
from model.generate import generate
from model.sampling.parameters import SamplingParameters
from model.text.utf8_ids import BYTES
from tests.model.plain import distributions
from tests.model.small import CHARACTERS, SIZE, small_checkpoint
from tests.training.html_reader import Node, read_html
from training.report.held_out_page import LEVELS, WARM, Page, held_out_page, level, page_section

RANDOM = np.random.default_rng(3)
LINES = "\n".join("".join(RANDOM.choice(list(CHARACTERS.strip() + "ŵ日 "), 40)) for _ in range(200))  # ŵ, 日: in bytes


def outspoken_checkpoint() -> Checkpoint:
    """One that holds some characters very likely and others hardly so, bytes least of all."""
    plain = small_checkpoint()
    bias = np.where(np.arange(SIZE) < BYTES, -30, plain.tensors["out.bias"]).astype(np.float32)
    return replace(plain, tensors={**plain.tensors, "out.weight": 5 * plain.tensors["out.weight"], "out.bias": bias})


def drawn(page: Page) -> Node:
    return read_html(f"<div>{page_section(page, 4.25)}</div>")


def spans(page: Page) -> list[Node]:
    (text,) = drawn(page).all("pre", "surprise")
    return text.all("span")


def test_the_page_is_the_text_from_the_first_line_after_the_warm_up() -> None:
    checkpoint = small_checkpoint()
    page = held_out_page(checkpoint, checkpoint.tokenizer.encode(LINES), 500)
    begin = LINES.index("\n", WARM) + 1
    assert page.before == begin
    assert page.text == LINES[begin : begin + 500]
    assert "".join(span.text for span in spans(page)) == page.text
    assert drawn(page).all("pre", "surprise")[0].text == page.text


@pytest.mark.parametrize(("quantization", "within"), [("int8", 1e-5), ("fp32", 0.1)])
def test_surprise_is_the_network_s_own_log_probability(quantization: Quantization, within: float) -> None:
    checkpoint = small_checkpoint()
    page = held_out_page(checkpoint, checkpoint.tokenizer.encode(LINES), 300)
    every = list(distributions(checkpoint, LINES[: page.before + 300], quantization))
    expected, place = [], 0
    for character in LINES[: page.before + 300]:
        count = len(checkpoint.tokenizer.encode(character))
        expected.append(-sum(logprobs[token] for token, logprobs in every[place : place + count]) / math.log(2))
        place += count
    assert page.bits == pytest.approx(expected[page.before :], abs=within)
    assert page.mean == pytest.approx(np.mean(expected[page.before :]), abs=within / 50)
    assert any(len(checkpoint.tokenizer.encode(character)) > 1 for character in page.characters)


def test_choices_and_alternatives_are_those_of_the_distribution() -> None:
    checkpoint = small_checkpoint()
    page = held_out_page(checkpoint, checkpoint.tokenizer.encode("abc de\n" * 20), 100)
    every = list(distributions(checkpoint, "abc de\n" * 20, "int8"))[page.before :]
    names = {" ": "space", "\n": "line break"}
    for at, (token, logprobs) in enumerate(every[:100]):
        order = np.lexsort((np.arange(len(logprobs)), -logprobs))
        assert page.choices[at] == 1 + list(order).index(token)
        pieces = [checkpoint.tokenizer.piece(int(one)) for one in order[:3]]
        assert [name for name, _ in page.alternatives[at]] == [
            piece if len(piece) > 1 else names.get(piece, f"“{piece}”") for piece in pieces
        ]
        shares = [share for _, share in page.alternatives[at]]
        assert shares == pytest.approx(np.exp(logprobs[order[:3]]), abs=1e-5)


def test_each_character_says_its_bits_and_has_their_colour() -> None:
    checkpoint = outspoken_checkpoint()
    written = generate(  # its own text, which surprises it little, then some that does
        Decoder(checkpoint), checkpoint.tokenizer, "", max_tokens=300, parameters=SamplingParameters(seed=1)
    )
    text = "".join(piece.text for piece in written) + LINES[:100]
    page = held_out_page(checkpoint, checkpoint.tokenizer.encode(text))
    for span, character, bits, choice in zip(spans(page), page.characters, page.bits, page.choices, strict=True):
        assert str(span.attributes["title"]).startswith(f"{bits:.2f} bits, choice {choice:,}; likeliest: ")
        assert f"l{sum(bits >= bound for bound in LEVELS)}" in span.styles()
        assert ("br" in span.styles()) == (character == "\n")
    assert len({span.styles()[0] for span in spans(page)}) == 7  # so that the colours were put to the test


def test_the_legend_and_the_words_count_the_page() -> None:
    page = Page(
        characters=("a", "\n", "b", "c"),
        bits=(0.1, 9.0, 1.0, 1.9),
        choices=(1, 40, 1, 2),
        alternatives=((("“a”", 0.93), ("“b”", 0.004)),) * 4,
        before=7,
        where="int8 on numpy",
    )
    root = drawn(page)
    legend = [item.text for item in root.all("ul", "legend")[0].all("li")]
    assert legend[0] == "abc 0 to 0.5 bits: 25%"
    assert legend[2] == "abc 1 to 2 bits: 50%"
    assert legend[-1] == "abc 6 and more bits: 25%"
    words = root.all("p")[0].text
    assert "4 characters" in words
    assert "the 7 characters before" in words
    assert (
        "On average 3.000 bits per character (the whole part: 4.250); 50% of the characters were the likeliest" in words
    )
    assert spans(page)[0].attributes["title"] == "0.10 bits, choice 1; likeliest: “a” 93%, “b” <1%"
    first = root.all("tbody")[0].all("tr")[0]
    assert [cell.text for cell in first.walk() if cell.name in ("th", "td")] == [
        "a⏎bc", "9.00", "40", "“a” 93%, “b” <1%",
    ]  # fmt: skip
    assert first.all("mark")[0].text == "⏎"


@pytest.mark.parametrize("bits", [0.0, *LEVELS, *(bound - 1e-9 for bound in LEVELS), 50.0])
def test_a_level_begins_at_its_bound(bits: float) -> None:
    assert level(bits) == sum(bits >= bound for bound in LEVELS)


@pytest.mark.parametrize("text", ["a", "日", "ab", "\n", "ab\ncd" * 30, LINES[:1200]])
def test_a_short_part_is_shown_whole(text: str) -> None:
    checkpoint = small_checkpoint()
    page = held_out_page(checkpoint, checkpoint.tokenizer.encode(text), 3000)
    assert (page.text, page.before) == (text, 0)
    every = list(distributions(checkpoint, text[:1], "int8"))
    first = -sum(logprobs[token] for token, logprobs in every) / math.log(2)
    assert page.bits[0] == pytest.approx(first, abs=1e-4)


def test_a_part_a_little_longer_than_the_page_is_shown_to_its_end() -> None:
    checkpoint = small_checkpoint()
    text = "ab" * 60
    page = held_out_page(checkpoint, checkpoint.tokenizer.encode(text), 100)
    assert (page.text, page.before) == (text[20:], 20)


def test_an_empty_part_is_refused() -> None:
    checkpoint = small_checkpoint()
    with pytest.raises(CorpusError, match="train on a longer corpus"):
        held_out_page(checkpoint, checkpoint.tokenizer.encode(""))
