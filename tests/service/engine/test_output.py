"""The output joins what its reader missed, and says what went wrong at the right moment."""

import asyncio

import numpy as np
import pytest

from model.errors import ServiceError
from service.engine.output import Logprobs, Output, Piece


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
