"""Items drawn in bulk: each is a function of the seed and its number, however many are drawn side by side."""

from dataclasses import replace
from itertools import islice

import pytest

from model.bulk.drawing import Item, ItemRequest
from model.bulk.generate import drawn_items
from model.constraints.compiling import compiled
from model.constraints.constraint import Constraint
from model.constraints.vocabulary import Vocabulary
from model.decoding.decoder import Decoder
from model.errors import ParameterError
from model.generate import generate
from model.sampling.parameters import SamplingParameters
from tests.model.small import small_checkpoint

CHECKPOINT = small_checkpoint()
DECODER = Decoder(CHECKPOINT)
REQUEST = ItemRequest(
    prompt="the", parameters=SamplingParameters(seed=7, temperature=1.2), max_tokens=300, stop=["\n", "a."]
)
REQUESTS = {
    "stop": REQUEST,
    "length": replace(REQUEST, stop=[], max_tokens=37),
    "penalties": replace(
        REQUEST, parameters=SamplingParameters(seed=3, repetition_penalty=1.5, top_p=0.9, frequency_penalty=0.5)
    ),
    "bytes": replace(REQUEST, prompt="Ω", stop=["月", "e, "]),
    "pattern": replace(
        REQUEST,
        stop=[],
        constraint=compiled(
            Constraint("regex", "[a-z]{2,9}( [a-z]{1,5})*", "regex"), Vocabulary(CHECKPOINT.tokenizer, DECODER.ids)
        ),
    ),
}


def alone(request: ItemRequest, number: int) -> Item:
    """The same text as one prompt's."""
    pieces = list(
        generate(
            DECODER,
            CHECKPOINT.tokenizer,
            request.prompt,
            max_tokens=request.max_tokens,
            parameters=request.parameters,
            stop=request.stop,
            choice=number,
            constraint=request.constraint,
        )
    )
    reason = pieces[-1].finish_reason
    assert reason is not None
    return Item(number, "".join(piece.text for piece in pieces), reason, pieces[-1].tokens)


@pytest.mark.parametrize("name", REQUESTS)
@pytest.mark.parametrize(("rows", "threads"), [(1, 1), (7, 3), (128, 2)])
def test_an_item_is_the_text_drawn_alone(name: str, rows: int, threads: int) -> None:
    request = REQUESTS[name]
    with drawn_items(DECODER, CHECKPOINT.tokenizer, request, end=40, rows=rows, threads=threads) as items:
        found = list(items)
    for item in found if rows == 7 else found[::13]:
        expected = alone(request, item.number)
        # how many ids a constraint draws in vain at the end is not part of the text
        assert item == (expected._replace(tokens=item.tokens) if request.constraint else expected)
    assert [item.number for item in found] == list(range(40))
    assert len({item.text for item in found}) > 20


def test_a_list_may_begin_anywhere_and_go_on_for_ever() -> None:
    with drawn_items(DECODER, CHECKPOINT.tokenizer, REQUEST, end=60) as items:
        whole = list(items)
    with drawn_items(DECODER, CHECKPOINT.tokenizer, REQUEST, start=20, rows=5, threads=2) as items:
        assert list(islice(items, 40)) == whole[20:]


def test_an_empty_request_is_refused() -> None:
    with (
        pytest.raises(ParameterError, match="max_tokens is 0"),
        drawn_items(DECODER, CHECKPOINT.tokenizer, replace(REQUEST, max_tokens=0)),
    ):
        pass


class Broken(Decoder):
    """Has rows once, and then none."""

    asked = 0

    def rows(self, slots: int):  # type: ignore[no-untyped-def]  # noqa: ANN201
        self.asked += 1
        if self.asked > 1:  # the first checks the request
            raise MemoryError("no rows left")
        return super().rows(slots)


def test_a_thread_that_fails_ends_the_list_with_its_error() -> None:
    with (
        pytest.raises(MemoryError, match="no rows left"),
        drawn_items(Broken(CHECKPOINT), CHECKPOINT.tokenizer, REQUEST, end=5, threads=2) as items,
    ):
        list(items)
