"""The batch equals the plain reference whichever rows come and go, and the output joins what its reader missed."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.decoder import Decoder
from model.errors import ServiceError
from model.generate import Piece
from model.sampling import SamplingParameters
from service.batch import Batch
from service.generation import Generation, GenerationRequest, Output
from tests.service.serving import Reference


def request(reference: Reference, prompt: str, max_tokens: int, seed: int, n: int = 1) -> GenerationRequest:
    parameters = SamplingParameters(seed=seed, repetition_penalty=1.0 + seed % 2 / 4)
    tokenizer, ids = reference.checkpoint.tokenizer, reference.decoder.ids
    return GenerationRequest(tokenizer, ids, prompt, parameters=parameters, max_tokens=max_tokens, n=n)


@given(st.lists(st.tuples(st.text("ab é", max_size=6), st.integers(1, 12), st.integers(0, 6)), max_size=8), st.data())
def test_rows_that_come_and_go_do_not_touch_each_other(
    reference: Reference, arrivals: list[tuple[str, int, int]], data: st.DataObject
) -> None:
    """Each row joins at a step of its own and leaves when it is done, or is thrown out at any time."""
    batch = Batch(reference.decoder)
    later = [
        (start, seed, request(reference, prompt, max_tokens, seed).rows[0])
        for seed, (prompt, max_tokens, start) in enumerate(arrivals)
    ]
    texts: dict[Generation, str] = {row: "" for _, _, row in later}
    running: list[Generation] = []
    thrown_out = set()
    for step in range(40):
        running = running + [row for start, _, row in later if start == step]
        if running and data.draw(st.integers(0, 9)) == 0:
            thrown_out.add(running.pop(data.draw(st.integers(0, len(running) - 1))))
        if not running:
            continue
        for row, token in batch.step(running):
            piece = row.accept(token)
            texts[row] += piece.text
            if piece.finish_reason:
                running = [other for other in running if other is not row]
    for (prompt, max_tokens, _), (_, seed, row) in zip(arrivals, later, strict=True):
        penalty = 1.0 + seed % 2 / 4
        whole = reference.write(prompt, max_tokens=max_tokens, seed=seed, repetition_penalty=penalty).text
        assert texts[row] == whole or (row in thrown_out and whole.startswith(texts[row]))


def test_an_empty_batch_steps(reference: Reference) -> None:
    assert Batch(reference.decoder).step([]) == []


def test_all_rows_may_read_at_once(reference: Reference) -> None:
    rows = request(reference, "abc", 2, seed=1, n=3).rows
    batch = Batch(reference.decoder)
    assert [len(batch.step(rows)) for _ in range(4)] == [0, 0, 3, 3]


def test_choices_share_their_prompt(reference: Reference) -> None:
    several = request(reference, "abc" * 100, 2, seed=1, n=3)
    assert all(row.prompt is several.prompt.ids for row in several.rows)


def test_fp32_decodes_alike_in_a_batch(reference: Reference) -> None:
    decoder = Decoder(reference.checkpoint, "fp32")
    rows = [request(reference, "ab" * seed, 8, seed).rows[0] for seed in range(5)]
    again = [request(reference, "ab" * seed, 8, seed).rows[0] for seed in range(5)]
    crowd, alone = Batch(decoder), [(Batch(decoder), row) for row in again]
    for _ in range(12):
        together = {row.request.parameters.seed: token for row, token in crowd.step(rows)}
        each = [drawn for batch, row in alone for drawn in batch.step([row])]
        assert together == {row.request.parameters.seed: token for row, token in each}


def output(pieces: list[tuple[int, Piece]], texts: int, every_piece: bool) -> Output:
    waiting = Output(texts, every_piece)
    for choice, piece in pieces:
        waiting.put(choice, piece)
    return waiting


def test_a_slow_reader_gets_longer_pieces() -> None:
    async def read() -> None:
        one = output([(0, Piece("a")), (1, Piece("x")), (0, Piece("b", None, 2))], 2, every_piece=True)
        assert await one.take() == [(0, Piece("ab", None, 2)), (1, Piece("x"))]
        one.put(1, Piece("y", "stop", 2))
        assert await one.take() == [(1, Piece("y", "stop", 2))]
        assert not one.ended
        one.put(0, Piece("", "length", 2))
        assert await one.take() == [(0, Piece("", "length", 2))]
        assert one.ended

    asyncio.run(read())


def test_a_reader_of_whole_texts_is_woken_once() -> None:
    async def read() -> None:
        one = output([(0, Piece("a")), (0, Piece("b", "length", 2))], 2, every_piece=False)
        taking = asyncio.create_task(one.take())
        await asyncio.sleep(0)
        assert not taking.done()
        one.put(1, Piece("c", "stop", 1))
        assert await taking == [(0, Piece("ab", "length", 2)), (1, Piece("c", "stop", 1))]
        assert one.ended

    asyncio.run(read())


@pytest.mark.parametrize("every_piece", [True, False])
def test_an_error_comes_after_what_a_stream_has_and_instead_of_half_a_text(every_piece: bool) -> None:
    async def read() -> None:
        one = output([(0, Piece("a"))], 1, every_piece)
        one.fail(ServiceError("broken"))
        if every_piece:
            assert await one.take() == [(0, Piece("a"))]
        for _ in range(2):
            with pytest.raises(ServiceError, match="broken"):
                await one.take()

    asyncio.run(read())


def test_an_error_after_the_end_is_no_error() -> None:
    async def read() -> None:
        one = output([(0, Piece("a", "length", 1))], 1, every_piece=False)
        one.fail(ServiceError("broken"))
        assert await one.take() == [(0, Piece("a", "length", 1))]

    asyncio.run(read())
