"""So much goes on in each pass of the event loop, and one that has gone keeps nobody waiting."""

import asyncio

from service.security.turnstile import Turnstile


def passes_of(room: int, sizes: list[int], cancelled: set[int]) -> tuple[list[int], list[int]]:
    """Who goes on, in order, and in which pass of the event loop."""

    async def main() -> tuple[list[int], list[int]]:
        turnstile, passed, order, passes = Turnstile(room), [0], list[int](), list[int]()

        def count() -> None:
            passed[0] += 1
            asyncio.get_running_loop().call_soon(count)

        async def one(number: int) -> None:
            await turnstile.enter(sizes[number])
            order.append(number)
            passes.append(passed[0])

        count()
        tasks = [asyncio.create_task(one(number)) for number in range(len(sizes))]
        await asyncio.sleep(0)
        for number in cancelled:
            tasks[number].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        before = passed[0]
        await turnstile.enter(room)
        assert passed[0] == before  # nobody waits, so neither does this
        return order, passes

    return asyncio.run(main())


def test_large_ones_have_a_pass_each_in_the_order_they_came() -> None:
    order, passes = passes_of(10, [20] * 8, {3})
    assert order == [0, 1, 2, 4, 5, 6, 7]
    assert len(set(passes)) == 7


def test_small_ones_share_a_pass_and_none_overtakes() -> None:
    order, passes = passes_of(10, [4, 4, 4, 1, 30, 2, 2], set())
    assert order == list(range(7))
    assert [passes.count(one) for one in sorted(set(passes))] == [2, 2, 1, 2]
