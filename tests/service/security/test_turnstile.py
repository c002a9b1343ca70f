"""One task goes on in each pass of the event loop, and one that has gone keeps nobody waiting."""

import asyncio

from service.security.turnstile import Turnstile


def test_one_goes_on_in_each_pass_in_the_order_they_came() -> None:
    async def main() -> None:
        turnstile, passes, gone_on = Turnstile(), [0], list[tuple[int, int]]()

        def count() -> None:
            passes[0] += 1
            asyncio.get_running_loop().call_soon(count)

        async def one(number: int) -> None:
            await turnstile.enter()
            gone_on.append((passes[0], number))

        count()
        tasks = [asyncio.create_task(one(number)) for number in range(8)]
        await asyncio.sleep(0)
        tasks[3].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert [number for _, number in gone_on] == [0, 1, 2, 4, 5, 6, 7]
        assert len({at for at, _ in gone_on}) == 7
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        before = passes[0]
        await turnstile.enter()
        assert passes[0] == before  # nobody waits, so neither does this

    asyncio.run(main())
