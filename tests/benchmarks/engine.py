"""The engine in this process, without HTTP: characters a second, and what it costs beside its decoder."""

import asyncio
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median

import numpy as np

from model.checkpoint import BUNDLED, Checkpoint, load
from model.decoding.decoder import Decoder
from model.decoding.rows import AnyDecoder
from model.generate import generate
from model.sampling.parameters import SamplingParameters
from service.engine.engine import Engine
from service.engine.prefix_cache import PrefixCache
from service.engine.sequence import EngineModel, SequenceGroup
from service.engine.text_request import TextRequest
from service.settings import Settings
from tests.benchmarks.decoding import bare_step, timed
from tests.benchmarks.figures import Figure, counted
from tests.benchmarks.timing import ratio, side_by_side
from tests.benchmarks.tutorial import one_torch_thread, tutorial_step

LONGEST_WAIT = 60  # seconds for any text
PROMPT = "ROMEO:"
LETTERS = "abcdefghijklmnopqrstuvwxyz ,.\nABCDEFGHIJKLMNOPQRSTUVWXYZ"


def random_prompt(length: int) -> str:
    """A prompt that no one has sent before."""
    return "".join(random.choices(LETTERS, k=length))


class EngineAlone:
    """An engine and the event loop its text arrives in."""

    def __init__(self, checkpoint: Checkpoint, decoder: AnyDecoder, engine: Engine, runner: asyncio.Runner) -> None:
        self.engine = engine
        self._model = EngineModel(decoder, checkpoint.tokenizer)
        self._runner = runner

    def request(self, prompt: str, characters: int, interval: float | None = None) -> SequenceGroup:
        """A request of one text with a seed of its own."""
        return SequenceGroup(
            self._model,
            TextRequest(
                prompts=[prompt],
                parameters=SamplingParameters(seed=random.getrandbits(53)),
                max_tokens=characters,
                interval=interval,
            ),
            cache=self.engine.cache,
        )

    def write(self, rows: int, characters: int) -> float:
        """Seconds of as many requests at once that are not streamed, from their prompts to the last whole text."""

        async def run() -> float:
            start = time.perf_counter()
            requests = [self.request(PROMPT, characters) for _ in range(rows)]
            for request in requests:
                self.engine.submit(request)
            async with asyncio.timeout(LONGEST_WAIT):
                for request in requests:
                    await request.output.take()
            seconds = time.perf_counter() - start
            for request in requests:
                self.engine.release(request)
            return seconds

        return self._runner.run(run())

    def first_piece(self, prompt: str) -> tuple[float, float]:
        """Seconds until a streamed request's first piece: from its prompt as text, and from its submission."""

        async def run() -> tuple[float, float]:
            start = time.perf_counter()
            request = self.request(prompt, 8, 0.02)
            submitted = time.perf_counter()
            self.engine.submit(request)
            try:
                async with asyncio.timeout(LONGEST_WAIT):
                    await request.output.take()
                    first = time.perf_counter()
                    while not request.output.ended:
                        await request.output.take()
            finally:
                self.engine.release(request)
            return first - start, first - submitted

        return self._runner.run(run())


@contextmanager
def engine_alone(checkpoint: Checkpoint, threads: int = 1) -> Iterator[EngineAlone]:
    """An engine with the settings a server has by default, for a `with` block."""
    engine, decoder = Engine(Settings(threads=threads)), Decoder(checkpoint)
    with asyncio.Runner() as runner:
        engine.start(runner.get_loop())
        try:
            yield EngineAlone(checkpoint, decoder, engine, runner)
        finally:
            engine.stop()


def against_tutorial(checkpoint: Checkpoint, alone: EngineAlone) -> list[Figure]:
    """Whole texts of the engine against the loop every tutorial shows, characters a second of all rows together."""
    figures = []
    with one_torch_thread():
        for rows, characters, target in ((1, 4000, 50), (32, 1000, 8)):
            per_step = per_step_of(alone, rows, characters)
            ours, theirs = side_by_side([per_step, timed(tutorial_step(checkpoint, rows))], 7)
            figures += [
                Figure(f"tutorial loop, {counted(rows, 'row')}", rows / median(theirs), "characters/s"),
                Figure(f"engine, {counted(rows, 'row')}", rows / median(ours), "characters/s"),
                Figure(f"engine, {counted(rows, 'row')}, against the tutorial loop", ratio(theirs, ours), "×", target),
            ]
    return figures


def per_step_of(alone: EngineAlone, rows: int, characters: int) -> Callable[[], float]:
    """Seconds of whole texts divided by the characters of one."""
    return lambda: alone.write(rows, characters) / characters


def against_bare(checkpoint: Checkpoint, alone: EngineAlone) -> list[Figure]:
    """A step of whole texts, with sampling, turns and hand-over, against the bare step; both through Python's calls.

    The engine takes many steps in a call, the bare step is a call of its own: at one row that is in the engine's
    favour, by the few microseconds of a call.
    """
    figures = []
    for rows, characters, target in ((1, 4000, 1.3), (32, 1000, 1.15), (128, 500, 1.1)):
        per_step = per_step_of(alone, rows, characters)
        ours, bare = side_by_side([per_step, timed(bare_step(checkpoint, rows))], 9)
        name = f"engine step with sampling against the bare decoder step, {counted(rows, 'row')}"
        figures.append(Figure(name, ratio(ours, bare), "× time", target, "most"))
    return figures


def cached_prompt(alone: EngineAlone) -> list[Figure]:
    """The first piece after a prompt of 4,000 characters, sent twice: cold, then at once from the cache.

    What counts begins with the prompt as text, for tokenizing and hashing it is the cache's own cost.
    """

    def pair() -> tuple[tuple[float, float], tuple[float, float]]:
        prompt = random_prompt(4000)
        return alone.first_piece(prompt), alone.first_piece(prompt)

    pairs = [pair() for _ in range(25)][1:]
    cold, cached = ([both[at][0] for both in pairs] for at in (0, 1))
    cold_submitted, cached_submitted = ([both[at][1] for both in pairs] for at in (0, 1))
    name = "cached prompt of 4,000 characters against a cold one, engine, text to first piece"
    return [
        Figure("cold prompt of 4,000 characters, engine, text to first piece", 1e3 * median(cold), "ms"),
        Figure("cached prompt of 4,000 characters, engine, text to first piece", 1e3 * median(cached), "ms"),
        Figure(name, ratio(cold, cached), "× faster", 50),
        Figure("the same from submission alone", ratio(cold_submitted, cached_submitted), "× faster"),
    ]


def cache_lookup() -> list[Figure]:
    """A prompt of 4,000 ids that begins like some of 10,000 entries, of which the longest prefix is found."""
    cache = PrefixCache(1 << 30)
    generator = np.random.default_rng()
    state = np.zeros((4, 512), np.float32)
    prompt = generator.integers(256, 320, 4000, np.int32)
    lengths = (*([64] * 9_990), *range(100, 3100, 300))
    for at, length in enumerate(lengths):
        ids = prompt[:length] if at >= 9_990 else generator.integers(256, 320, length, np.int32)
        prefixes = cache.prefixes(b"", ids)
        assert prefixes is not None
        cache.store(prefixes, length, state)
    assert cache.statistics.entries == 10_000

    def look_up() -> None:
        prefixes = cache.prefixes(b"", prompt)
        assert prefixes is not None
        hit = cache.find(prefixes)
        assert hit is not None
        assert hit.length == 2800

    ((*seconds,),) = side_by_side([timed(look_up)], 9)
    return [Figure("prefix cache, 10,000 entries, a prompt of 4,000", 1e3 * median(seconds), "ms", 1, "most")]


def generating(checkpoint: Checkpoint) -> list[Figure]:
    """The plain loop of `unroll generate`, a character at a time."""
    decoder = Decoder(checkpoint)

    def run() -> None:
        for _ in generate(decoder, checkpoint.tokenizer, PROMPT, max_tokens=500):
            pass

    ((*seconds,),) = side_by_side([timed(run)], 5)
    return [Figure("generate(), one text", 500 / median(seconds), "characters/s")]


def measure() -> list[Figure]:
    """One thread for everyone unless said; the pairs stand side by side in time."""
    checkpoint = load(BUNDLED)
    with engine_alone(checkpoint) as alone:
        return [
            *against_tutorial(checkpoint, alone),
            *against_bare(checkpoint, alone),
            *cached_prompt(alone),
            *cache_lookup(),
            *generating(checkpoint),
        ]
