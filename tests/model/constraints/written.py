"""A small model that can write JSON, and its texts under a constraint."""

from functools import cache
from typing import Any, NamedTuple

from model.constraints.compiling import Compiled, compiled
from model.constraints.constraint import Constraint, Kind
from model.constraints.vocabulary import Vocabulary
from model.decoding.decoder import NUMPY, Decoder
from model.generate import TokenLogprobs, generate
from model.sampling.parameters import SamplingParameters
from tests.model.small import small_checkpoint

CHARACTERS = "\n" + "".join(map(chr, range(32, 127))) + "é月"
CHECKPOINT = small_checkpoint(characters=CHARACTERS)
DECODER = Decoder(CHECKPOINT)
VOCABULARY = Vocabulary(CHECKPOINT.tokenizer, DECODER.ids)


class Written(NamedTuple):
    """A text, why it ended, how many ids it counts, and their log-probabilities where asked for."""

    text: str
    finish_reason: str | None
    tokens: int
    logprobs: tuple[TokenLogprobs, ...]


@cache
def constraint(kind: Kind, source: str, closed: bool = True) -> Compiled:
    """A constraint ready for the small model."""
    return compiled(Constraint(kind, source, kind, closed), VOCABULARY)


@cache
def numpy_decoder() -> Decoder:
    return Decoder(CHECKPOINT, processor=NUMPY)


def write(
    asked: Compiled | None, prompt: str = "a", max_tokens: int = 60, decoder: Decoder = DECODER, **options: Any
) -> Written:
    """Generate one text; options of `generate` may stand among the sampling parameters."""
    ours = {name: options.pop(name) for name in ("logprobs", "choice", "stop") if name in options}
    parameters = SamplingParameters(**options)
    pieces = list(
        generate(
            *(decoder, CHECKPOINT.tokenizer, prompt),
            max_tokens=max_tokens,
            parameters=parameters,
            constraint=asked,
            **ours,
        )
    )
    logprobs = tuple(one for piece in pieces for one in piece.logprobs)
    return Written("".join(piece.text for piece in pieces), pieces[-1].finish_reason, pieces[-1].tokens, logprobs)
