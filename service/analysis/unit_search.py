"""The search for units that respond to features of a text: correlations from sums, in one pass and in flat memory."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from model.arithmetic import Array
from model.sampling.parameters import SamplingParameters
from model.text.features import DESCRIPTIONS, Feature, Numbers, TextFeatures
from model.text.prompt import count_unseen
from model.text.utf8_ids import Ids
from service.analysis.inspect_answer import AFTER, DIGITS, network_of, unit_of, usage_of
from service.analysis.inspect_schemas import SearchRequest
from service.analysis.score_tally import Before
from service.analysis.token_routes import ends_character
from service.api.sse import ENCODE
from service.engine.prompt_scores import Slice, weakly
from service.engine.text_request import TextRequest
from service.inference.served_model import ServedModel
from service.inference.texts import Texts

BLOCK = 64  # characters whose products are added up at once, wherever the text was cut, so that sums always round alike
STRIPE = 256  # units multiplied at once: so small a product stays on the thread that reads, others keep their cores
STILL = 1e-9  # a variance of a unit, beside 1 + its mean squared, below which it does not respond to anything
UNIT_BYTES = 2_000  # for each unit of the network: sums, a block in two widths, and its products


class UnitSums:
    """Adds up what correlations are made of, from the states after each character; for the thread that reads.

    See `service.engine.prompt_scores.StateWatch`. units: of a state; all are watched.
    """

    def __init__(self, units: int, features: Sequence[Feature], skip: int) -> None:
        self.columns = np.arange(units, dtype=np.int32)
        self.characters = 0
        self._skip = skip
        self._names = features
        self._features = TextFeatures()
        self._text, self._ids = "", np.zeros(0, np.int32)
        self._states = np.zeros((BLOCK, units), np.float32)
        self._filled = 0
        self._products = np.zeros((1 + len(features), units))
        self._squares = np.zeros(units)
        self._own = np.zeros((1 + len(features), 1 + len(features)))

    def expect(self, text: str, ids: Ids) -> None:
        """Prepare for a text and its ids."""
        self._text, self._ids = text, np.asarray(ids, np.int32)

    def take(self, start: int, states: Array) -> None:
        """Add the states after some ids: those after the last id of each character."""
        first = max(self._skip - start, 0)
        at = start + first - self._skip
        count = max(min(len(states) - first, len(self._ids) - at), 0)
        ends = first + np.flatnonzero(ends_character(self._ids[at : at + count + 1])[:count])
        while len(ends):
            some = ends[: BLOCK - self._filled]
            self._states[self._filled : self._filled + len(some)] = states[some]
            self._filled += len(some)
            ends = ends[len(some) :]
            if self._filled == BLOCK:
                self._sum()

    def _sum(self) -> None:
        """Add up the products of the characters that wait, a block or what is left of the text."""
        count = self._filled
        found = self._features.block(self._text[self.characters : self.characters + count])
        self.characters += count
        states, block = self._states[:count].astype(np.float64), np.ones((count, 1 + len(self._names)))
        for column, name in enumerate(self._names, 1):
            block[:, column] = found[name]
        for start in range(0, states.shape[1], STRIPE):
            stripe = slice(start, start + STRIPE)
            self._products[:, stripe] += block.T @ states[:, stripe]
        self._squares += np.einsum("ij,ij->j", states, states)
        self._own += block.T @ block
        self._filled = 0

    def finish(self) -> tuple[Numbers, Numbers]:
        """The mean of each feature (F,) and its correlation with each unit (F, U), 0 where one of the two is still."""
        self._sum()
        count = max(self.characters, 1)
        means = self._own[0, 1:] / count
        spread = np.diag(self._own)[1:] / count - means**2
        unit_means = self._products[0] / count
        unit_spread = self._squares / count - unit_means**2
        together = self._products[1:] / count - means[:, None] * unit_means
        moving = (spread > STILL)[:, None] & (unit_spread > STILL * (1 + unit_means**2))
        scale = np.sqrt(np.where(moving, spread[:, None] * unit_spread, 1))
        return means, np.where(moving, together / scale, 0).clip(-1, 1)


class SearchAnswer:
    """The answer to one request, from what comes while its text is read."""

    def __init__(self, model: ServedModel, body: SearchRequest) -> None:
        self.model, self.body = model, body
        self.before = Before(model, body.context)
        self.common = self.before.text
        self.features = list(dict.fromkeys(body.features))
        self.sums = UnitSums(model.decoder.config.units(), self.features, self.before.skip)
        self.cached = 0
        self._ids: Ids

    def request(self, origin: Mapping[str, Any]) -> TextRequest:
        """The request to the engine."""
        return TextRequest(
            prompts=[self.common + self.body.text + AFTER],
            parameters=SamplingParameters(),
            max_tokens=0,
            on_scores=weakly(self.take),
            unscored=self.before.skip,
            watch=self.sums,
            **origin,
        )

    def expect(self, texts: Texts) -> None:
        """Prepare to look at the states."""
        self._ids = texts.prompts[0].ids[self.before.tokens : -1]
        self.sums.expect(self.body.text, self._ids)

    def take(self, index: int, slice_: Slice) -> None:
        """Nothing: only the states count."""

    def parts(self) -> Iterator[str]:
        """The answer as JSON, once the text is read."""
        means, correlations = self.sums.finish()
        config, unseen = self.model.decoder.config, count_unseen(self._ids, self.model.decoder.ids)
        found = []
        for name, mean, row in zip(self.features, means.tolist(), correlations, strict=True):
            best = np.argsort(-np.abs(row), kind="stable")[: self.body.most].tolist()
            units = [
                {**unit_of(config, column), "correlation": round(float(row[column]), DIGITS)}
                for column in best
                if row[column]
            ]
            empty = not self.body.text
            found.append(
                {
                    "feature": name,
                    "description": DESCRIPTIONS[name],
                    "mean": None if empty else mean,
                    "units": units,
                }
            )
        yield ENCODE(
            {
                "object": "unit_search",
                "model": self.model.name,
                "network": network_of(config),
                "characters": len(self.body.text),
                "features": found,
                "usage": usage_of(self.before, len(self._ids), self.cached, unseen),
            }
        )
