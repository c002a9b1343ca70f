"""The answer of /v1/inspect: each character's score as /v1/score has it, and chosen numbers of the state after it."""

from collections.abc import Iterator, Mapping
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from model.arithmetic import Array
from model.config import NetworkConfig
from model.decoding.rows import Scored
from model.embedding import Part
from model.errors import ParameterError
from model.sampling.parameters import SamplingParameters
from model.surprise_sum import BITS, nats_of
from model.text.prompt import count_unseen
from model.text.utf8_ids import Ids
from service.analysis.inspect_schemas import InspectRequest, Unit
from service.analysis.score_tally import Before, details
from service.analysis.token_routes import ends_character
from service.api.pieces import ENTRIES, separated
from service.api.sse import ENCODE
from service.engine.prompt_scores import PromptScores, Slice, scored_from, weakly
from service.engine.text_request import TextRequest
from service.inference.served_model import ServedModel
from service.inference.texts import Texts

AFTER = "\n"
"""Read after a text, so that the state after its last character is seen, and what is expected there. Always one id."""
DIGITS = 6  # after the point, of numbers of the state


class StateKeeper:
    """Keeps numbers of the state after each id of a text; see `service.engine.prompt_scores.StateWatch`.

    skip: ids before the text's own. values: (T, U), whole once the text is read.
    """

    def __init__(self, columns: NDArray[np.int32], skip: int) -> None:
        self.columns = columns
        self.values = np.zeros((0, len(columns)), np.float32)
        self._skip = skip

    def expect(self, length: int) -> None:
        """Make room for a text of so many ids."""
        self.values = np.zeros((length, len(self.columns)), np.float32)

    def take(self, start: int, states: Array) -> None:
        """Keep what is of the text."""
        first = max(self._skip - start, 0)
        at = start + first - self._skip
        some = states[first : first + max(len(self.values) - at, 0)]
        self.values[at : at + len(some)] = some


class InspectAnswer:
    """The answer to one request, from what comes while its text is read.

    before: what is read before the text. cached: ids of it that came from the prefix cache.
    Raises ParameterError on a unit that the network does not have.
    """

    def __init__(self, model: ServedModel, body: InspectRequest) -> None:
        self.model, self.body = model, body
        self.before = Before(model, body.context)
        self.common = self.before.text
        columns = np.array([column_of(model.decoder.config, unit) for unit in body.units], np.int32)
        chosen, self._order = np.unique(columns, return_inverse=True)
        self.keeper = StateKeeper(chosen, self.before.skip) if len(columns) else None
        self.cached = 0
        self._ids: Ids
        self._scores: PromptScores

    def request(self, origin: Mapping[str, Any]) -> TextRequest:
        """The request to the engine."""
        return TextRequest(
            prompts=[self.common + self.body.text + AFTER],
            parameters=SamplingParameters(),
            max_tokens=0,
            prompt_logprobs=self.body.top_logprobs,
            on_scores=weakly(self.take),
            unscored=self.before.skip,
            watch=self.keeper,
            **origin,
        )

    def expect(self, texts: Texts) -> None:
        """Make room for what will be reported."""
        self._ids = texts.prompts[0].ids[self.before.tokens : -1]
        self._scores = PromptScores(len(self._ids) + 2, self.model.tokenizer.size, self.body.top_logprobs, None)
        if self.keeper is not None:
            self.keeper.expect(len(self._ids))

    def take(self, index: int, slice_: Slice) -> None:  # noqa: ARG002
        """Keep the scores of some ids, as far as they are of the text or of what follows it."""
        first = max(0, self.before.skip - slice_.start)
        self._scores.keep(Slice(slice_.start + first - self.before.skip + 1, scored_from(slice_.scored, first)))

    def parts(self) -> Iterator[str]:
        """The answer as JSON, once the text is read."""
        about = ENCODE(self._about())
        yield about[:-1] + ',"details":['
        yield from separated(ENCODE(block)[1:-1] for block in self._details())
        yield "]}"

    @property
    def _kept(self) -> Scored:
        assert self._scores.kept is not None
        return self._scores.kept

    def _about(self) -> dict[str, Any]:
        """All but what is said of each character."""
        characters = len(self.body.text)
        bits = nats_of(self._kept.logprobs[:-1]) * BITS
        unseen = count_unseen(self._ids, self.model.decoder.ids)
        return {
            "object": "inspection",
            "model": self.model.name,
            "network": network_of(self.model.decoder.config),
            "characters": characters,
            "tokens": len(self._ids),
            "bits": bits,
            "bits_per_character": bits / characters if characters else None,
            "unseen_characters": unseen,
            "units": self._ranges(),
            "next": self._next(),
            "usage": usage_of(self.before, len(self._ids), self.cached, unseen),
        }

    def _ranges(self) -> list[dict[str, Any]]:
        """The units, and between what they lie."""
        values = self._values()
        ends: list[tuple[float | None, float | None]] = [(None, None)] * len(self.body.units)
        if len(values):
            ends = list(zip(rounded(values.min(axis=0)), rounded(values.max(axis=0)), strict=True))
        named = ("least", "greatest")
        return [
            {**unit.model_dump(), **dict(zip(named, pair, strict=True))}
            for unit, pair in zip(self.body.units, ends, strict=True)
        ]

    def _next(self) -> dict[str, Any]:
        """What is expected after the text."""
        kept = self._kept
        assert kept.entropies is not None
        assert kept.top_ids is not None
        assert kept.top_logprobs is not None
        piece = self.model.tokenizer.piece
        shares = np.exp(kept.top_logprobs[-1].astype(np.float64)).clip(max=1).tolist()
        likeliest = [
            {"character": piece(token), "probability": share}
            for token, share in zip(kept.top_ids[-1].tolist(), shares, strict=True)
        ]
        return {"entropy_bits": float(kept.entropies[-1]) * BITS, "alternatives": likeliest or None}

    def _values(self) -> Array:
        """The numbers after each character (characters, U), in the order of the request."""
        if self.keeper is None:
            return np.zeros((len(self.body.text), 0), np.float32)
        return self.keeper.values[np.flatnonzero(ends_character(self._ids))][:, self._order]

    def _details(self) -> Iterator[list[dict[str, Any]]]:
        """Every character with its score and its units, some at a time."""
        parts: list[Any] = [part if part is None else part[:-1] for part in self._kept]
        values, at = self._values(), 0
        for block in details(self.model.tokenizer, self.body.text, self._ids, Scored(*parts)):
            some = rounded(values[at : at + len(block)]) if self.keeper is not None else [None] * len(block)
            at += len(block)
            rows = [{**row, "units": units} for row, units in zip(block, some, strict=True)]
            step = max(1, ENTRIES // (1 + len(self.body.units)))
            yield from (rows[start : start + step] for start in range(0, len(rows), step))


def column_of(config: NetworkConfig, unit: Unit) -> int:
    """Where in a row's state a unit is. Raises ParameterError where the network does not have it."""
    parts = parts_of(config)
    if unit.layer >= config.layers or unit.unit >= config.hidden or unit.part not in parts:
        raise ParameterError(
            "units",
            f"There is no unit {unit.unit} in the part {unit.part} of layer {unit.layer}; this network has the layers "
            f"0 to {config.layers - 1}, each with units 0 to {config.hidden - 1:,} of {' and '.join(parts)}.",
        )
    name = config.layer_state(unit.layer)[parts.index(unit.part)]
    return int(config.state_layout()[name].start) + unit.unit


def unit_of(config: NetworkConfig, column: int) -> dict[str, Any]:
    """The unit that a column of a row's state is."""
    layout = config.state_layout()
    for layer in range(config.layers):
        for part, name in zip(parts_of(config), config.layer_state(layer), strict=True):
            if layout[name].start <= column < layout[name].stop:
                return {"layer": layer, "part": part, "unit": column - layout[name].start}
    raise IndexError(f"a state has {config.units():,} units, and not {column:,}")


def parts_of(config: NetworkConfig) -> list[Part]:
    """The parts of each layer's state."""
    return list(get_args(Part))[: len(config.layer_state(0))]


def network_of(config: NetworkConfig) -> dict[str, Any]:
    """The shape of a network, as `Network` has it."""
    return {"cell": config.cell, "layers": config.layers, "width": config.hidden, "parts": parts_of(config)}


def usage_of(before: Before, tokens: int, cached: int, unseen: int) -> dict[str, Any]:
    """What reading a text of so many ids took, as `Usage` has it."""
    tokens += before.context_tokens
    return {
        "prompt_tokens": tokens,
        "completion_tokens": 0,
        "total_tokens": tokens,
        "prompt_tokens_details": {"cached_tokens": cached, "unseen_characters": unseen + before.context_unseen},
    }


def rounded(numbers: Array) -> list[Any]:
    """Numbers as they are written."""
    listed: list[Any] = np.round(numbers.astype(np.float64), DIGITS).tolist()
    return listed
