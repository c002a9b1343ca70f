"""The memorisation report: seconds for a corpus of 100 MB, against reading the same bytes once."""

from statistics import median

import numpy as np

from model.text.tokenizer import Tokenizer
from model.text.utf8_ids import Ids
from tests.benchmarks.figures import Figure
from tests.benchmarks.timing import mean_seconds, ratio, side_by_side
from training.evaluation.memorisation import CHARACTERS, copied

MEGABYTES = 100  # of the text as UTF-8
ROUNDS = 3
LARGE = 100_000  # characters of a sample whose automaton is larger than a core's cache
LONGEST = 5  # seconds for a sample of the usual size


def words(characters: str, size: int, longest: int) -> str:
    """A text of so many characters in 20,000 words of up to `longest`; by Zipf's law, as words of books are."""
    chance = np.random.default_rng(0)
    shares = 1 / np.arange(1, len(characters) + 1)
    letters = chance.choice(list(characters), (20_000, longest), p=shares / shares.sum())
    lengths = chance.integers(1, longest + 1, 20_000)
    known = ["".join(word[:length]) for word, length in zip(letters.tolist(), lengths.tolist(), strict=True)]
    places = np.minimum(chance.zipf(1.2, size) - 1, len(known) - 1)
    return " ".join(known[at] for at in places.tolist())[:size]


def measure() -> list[Figure]:
    """Samples of two sizes, of the corpus's own words in an order of their own, in two alphabets."""
    latin = "etaoinshrdlcumwfgypbvkjxqzETAOINSHRDLCUMWFGYPBVKJXQZ.,;:'!?-\n"
    chinese = "".join(map(chr, range(0x4E00, 0x4E00 + 9727)))
    figures = []
    for name, characters, longest, each in (("Latin letters", latin, 9, 1), ("Chinese characters", chinese, 3, 3)):
        text = words(characters, LARGE + 2_000_000, longest)
        tokenizer = Tokenizer(" " + characters)
        ids = tokenizer.encode(text)
        sample, part = ids[:LARGE], ids[LARGE:]
        corpus: Ids = np.resize(part, MEGABYTES * 1_000_000 // each)
        figures += [
            figure for size in (CHARACTERS, LARGE) for figure in _figures(name, sample[:size], corpus, tokenizer)
        ]
    return figures


def _figures(name: str, sample: Ids, corpus: Ids, tokenizer: Tokenizer) -> list[Figure]:
    ours, once = side_by_side(
        [
            lambda: mean_seconds(lambda: copied(sample, corpus, tokenizer), 1),
            lambda: mean_seconds(lambda: corpus.sum(dtype=np.int64), 1),
        ],
        ROUNDS,
    )
    what = f"what {len(sample):,} characters copy from {MEGABYTES} MB of {name}"
    return [
        Figure(what, median(ours), "s", LONGEST if len(sample) == CHARACTERS else None, "most"),
        Figure(f"{what}, against adding up its ids", ratio(ours, once), "×"),
    ]
