"""Two checkpoints on one text: which predicts it better, by how much, and how sure that is."""

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.checkpoint import Checkpoint, named_checkpoint
from model.checkpoint import load as load_checkpoint
from model.decoding.decoder import Decoder
from model.errors import CorpusError, ParameterError
from model.text.utf8_ids import begins_character
from training.data.named_corpus import open_corpus

LONGEST_BLOCK, FEWEST_BLOCKS = 500, 20  # characters of a block, and blocks that a text has at least
SHORTEST = 200  # characters
RESAMPLED, SEED = 2_000, 1
SURE = 0.95
READ = 4_096  # ids read at once


@dataclass(frozen=True)
class PairedResult:
    """Bits per character of both, `b - a` and the interval it is in with 95 % confidence, in bits per character.

    better: "a" or "b" where the interval leaves out 0, else None.
    """

    bits_a: float
    bits_b: float
    difference: float
    interval: tuple[float, float]
    better: str | None
    characters: int
    blocks: int
    block_characters: int

    def to_json(self) -> dict[str, Any]:
        """The result as JSON values."""
        return asdict(self)


def compare_checkpoints(first: Path, second: Path, text: str) -> PairedResult:
    """Read a text with both as they are served (int8), the state carried, and compare them block by block.

    The text is cut into blocks, which are drawn with replacement 2,000 times (Efron 1979; blocks, as neighbouring
    characters are not independent): the interval is that of the middle 95 % of the differences.
    Raises CorpusError on a short text, ParameterError on a checkpoint of items.
    """
    if len(text) < SHORTEST:
        raise CorpusError(f"The text has {len(text):,} characters, too few to compare on; {SHORTEST} are needed.")
    a, b = (character_nats(_of_texts(path), text) for path in (first, second))
    size = min(LONGEST_BLOCK, (len(text) - 1) // FEWEST_BLOCKS)
    starts = np.arange(0, len(a), size)
    sizes = np.diff(np.append(starts, len(a)))
    in_bits = 1 / math.log(2)
    differences = np.add.reduceat(b - a, starts) * in_bits
    drawn = np.random.default_rng(SEED).integers(len(starts), size=(RESAMPLED, len(starts)))
    means = differences[drawn].sum(1) / sizes[drawn].sum(1)
    low, high = (float(one) for one in np.quantile(means, [(1 - SURE) / 2, (1 + SURE) / 2]))
    return PairedResult(
        bits_a=float(a.mean() * in_bits),
        bits_b=float(b.mean() * in_bits),
        difference=float(differences.sum() / len(a)),
        interval=(low, high),
        better="a" if low > 0 else "b" if high < 0 else None,
        characters=len(a),
        blocks=len(starts),
        block_characters=size,
    )


def read_text(names: tuple[str, ...], encoding: str) -> str:
    """The text of some names, all of it."""
    return "".join(open_corpus(names, encoding).blocks())


def character_nats(checkpoint: Checkpoint, text: str) -> NDArray[np.float64]:
    """The nats of each character of a text but the first, (n - 1,), read in one pass with the state carried."""
    ids = checkpoint.tokenizer.encode(text)
    rows, nats = Decoder(checkpoint).rows(1), []
    for at in range(0, len(ids) - 1, READ):
        window = ids[at : at + READ + 1].astype(np.int32)
        nats.append(-rows.score([0], window[None, :-1], window[None, 1:]).logprobs[0].astype(np.float64))
    starts = np.flatnonzero(begins_character(ids))
    every = np.concatenate([np.zeros(1), *nats])  # the first id is not predicted
    found: NDArray[np.float64] = np.add.reduceat(every, starts)[1:]
    return found


def _of_texts(path: Path) -> Checkpoint:
    checkpoint = load_checkpoint(named_checkpoint(path))
    if checkpoint.tokenizer.frame.items:
        raise ParameterError(
            "names", f"{path} writes items, each by itself; measure it with `unroll evaluate {path} TEXT` instead."
        )
    return checkpoint
