"""The output joins what its reader missed, and says what went wrong at the right moment."""

import asyncio
import tracemalloc

import numpy as np
import pytest

from model.errors import ServiceError
from service.engine.output import UNCHARGED, Logprobs, Output, Piece
from service.process.ledger import Ledger


def output(pieces: list[tuple[int, Piece]], texts: int, every_piece: bool) -> Output:
    waiting = Output(texts, every_piece)
    for choice, piece in pieces:
        waiting.put(choice, piece)
    return waiting


def test_a_slow_reader_gets_longer_pieces() -> None:
    async def read() -> None:
        one = output([(0, Piece("a")), (1, Piece("x")), (0, Piece("b", None, 2))], 2, every_piece=True)
        assert await one.take() == [(0, Piece("ab", None, 2)), (1, Piece("x"))]
        one.put(1, Piece("y", "stop", 2, "z"))
        assert await one.take() == [(1, Piece("y", "stop", 2, "z"))]
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


def test_log_probabilities_are_joined_like_the_text() -> None:
    def told(*ids: int) -> Logprobs:
        column = np.array(ids, np.int32)
        table = np.stack([column, column], axis=1)
        return Logprobs(column, -column.astype(np.float32), table, -table.astype(np.float32))

    async def read() -> None:
        one = output([(0, Piece("ab", None, 2, None, told(1, 2))), (0, Piece("c", None, 3, None, told(3)))], 1, True)
        [(_, piece)] = await one.take()
        assert piece.logprobs is not None
        for joined, whole in zip(piece.logprobs, told(1, 2, 3), strict=True):
            assert np.array_equal(joined, whole)
        one.put(0, Piece("", "length", 3))
        assert await one.take() == [(0, Piece("", "length", 3))]

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


def test_what_small_pieces_take_while_they_wait_is_charged() -> None:
    """A reported character comes alone where each is an event, and arrays of one number take more than they hold."""

    def told(drawn: int) -> Logprobs:
        column, table = np.array([drawn], np.int32), np.arange(drawn, drawn + 5, dtype=np.int32)[None]
        return Logprobs(column, -column.astype(np.float32), table, -table.astype(np.float32))

    async def read() -> None:
        lease = Ledger(1 << 28).take(0)
        waiting = Output(4, every_piece=True, lease=lease)
        tracemalloc.start()
        for drawn in range(5_000):
            for text in range(4):
                waiting.put(text, Piece("a", None, drawn + 1, None, told(drawn)))
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert 1_000_000 < held <= lease.size + UNCHARGED < 3 * held
        for _, piece in await waiting.take():
            assert piece.logprobs is not None
            assert piece.logprobs.ids.tolist() == list(range(5_000))
            assert piece.logprobs.top_ids[-1].tolist() == list(range(4_999, 5_004))

    asyncio.run(read())
