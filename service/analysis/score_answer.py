"""The answer of /v1/score, made from scores that come while the texts are read."""

from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from typing import Any

from model.decoding.state import RowState
from model.sampling.parameters import SamplingParameters
from model.surprise_sum import BITS
from service.analysis.score_schemas import ScoreRequest
from service.analysis.score_tally import Before, Tally, details
from service.api.pieces import gathered, separated
from service.api.sse import ENCODE, EventIds, ServerSentEvent, done_event
from service.api.streaming import KEEP_ALIVE, StreamBytes
from service.engine.output import Grown
from service.engine.prompt_scores import PromptScores, Slice, weakly
from service.engine.text_request import TextRequest
from service.inference.served_model import ServedModel
from service.inference.texts import INSTANT, Texts

NO_HELD_OUT = (
    "The checkpoint has no held-out passages to compare with; measure them with "
    "`unroll evaluate CHECKPOINT CORPUS --split SPLIT --write-surprise`."
)
REMEMBERED = " The texts were read with the online memory, the passages without."
WARM = " The texts were read after a context, the passages after none."


class ScoreAnswer:
    """The answer to one request, whole or as a stream, from the scores that come while its texts are read.

    before: what is read before each text. cached: ids of it that came from the prefix cache.
    texts: set before the first score comes. beginning: the state that the texts come after, if any. sign: makes the
    token of a state.
    """

    def __init__(
        self,
        model: ServedModel,
        body: ScoreRequest,
        beginning: RowState | None = None,
        sign: Callable[[RowState], str] | None = None,
    ) -> None:
        self.model, self.body, self.beginning = model, body, beginning
        self._sign = sign
        self._states: dict[int, RowState] = {}
        self.ids = EventIds("", 1)
        self.before = Before(model, body.context, beginning)
        self.top = body.top_logprobs if body.details or body.top_logprobs else None
        self.cached = 0
        self.tallies: list[Tally] = []
        self.texts: Texts

    def request(self, origin: Mapping[str, Any]) -> TextRequest:
        """The request to the engine."""
        return TextRequest(
            prompts=[self.before.text + text for text in self.body.texts],
            parameters=SamplingParameters(),
            max_tokens=0,
            prompt_logprobs=self.top,
            on_scores=weakly(self.take),
            unscored=self.before.skip,
            beginning=self.beginning,
            return_state=self.body.return_state,
            memory=self.model.memory if self.body.memory else None,
            **origin,
        )

    def expect(self, texts: Texts) -> None:
        """Prepare to take the scores of these texts."""
        self.texts = texts
        size = self.model.tokenizer.size
        for prompt in texts.prompts:
            length = self.before.skip - self.before.tokens + prompt.tokens
            scores = None if self.top is None else PromptScores(length, size, self.top, None)
            self.tallies.append(Tally(self.before.skip, scores))

    def take(self, index: int, slice_: Slice) -> None:
        """Take some scores of one text."""
        self.tallies[index].take(slice_)

    def grown(self, grown: Grown) -> Iterator[StreamBytes]:
        """Nothing: no text is generated, and the scores come through `take`. The states are kept."""
        self._states |= {index: piece.state for index, piece in grown if piece.state is not None}
        return iter(())

    def silence(self) -> bytes:
        """How many tokens have been read; a comment where the scores were sent before."""
        if self.ids.ended:
            return KEEP_ALIVE
        progress = {
            "object": "score.progress",
            "tokens": sum(tally.read for tally in self.tallies),
            "total_tokens": sum(prompt.tokens for prompt in self.texts.prompts),
        }
        return ServerSentEvent.of_json(progress, self.ids.line()).encode()

    def end(self) -> Iterator[StreamBytes]:
        """The scores, and the end."""
        if not self.ids.ended:
            event = chain(["data: "], self.parts(), ["\n"], self._written())
            yield gathered(event) if self.slow else "".join(event).encode()
        yield done_event(self.ids.end("done"))

    def _written(self) -> Iterator[str]:
        """The end of the event of the scores."""
        yield f"{self.ids.end('usage')}\n"

    @property
    def slow(self) -> bool:
        """Whether `parts` may take more than a millisecond."""
        return self.top is not None or sum(map(len, self.body.texts)) > INSTANT

    def parts(self) -> Iterator[str]:
        """The answer as JSON, once all texts are read."""
        results: list[dict[str, Any]] = []
        yield f'{{"object":"score","model":{ENCODE(self.model.name)},"results":'
        opening = "["
        for index in range(len(self.tallies)):
            results.append(self._result(index))
            yield f'{opening}{ENCODE(results[-1])[:-1]},"details":'
            yield from self._details(index)
            if self._sign is not None and index in self._states:
                yield f',"state":"{self._sign(self._states[index])}"'
            yield "}"
            opening = ","
        yield f"],{ENCODE(self._about(results))[1:]}"

    def results(self) -> list[dict[str, Any]]:
        """The score of each text, once all texts are read."""
        return [self._result(index) for index in range(len(self.tallies))]

    def _about(self, results: list[dict[str, Any]]) -> dict[str, Any]:
        """What is said of all texts together."""
        indices = range(len(results))
        held_out, tokens = self.model.held_out, self.before.context_tokens + sum(result["tokens"] for result in results)
        note = NO_HELD_OUT if held_out is None else f"Percentiles are among {held_out.protocol}."
        unseen = sum(result["unseen_characters"] for result in results)
        return {
            "ranking": {
                "total": sorted(indices, key=lambda at: results[at]["bits"]),
                "per_character": sorted(indices, key=lambda at: _last_if_null(results[at]["bits_per_character"])),
            },
            "anomaly_note": note
            + (WARM if held_out is not None and (self.body.context or self.beginning) else "")
            + (REMEMBERED if held_out is not None and self.body.memory else ""),
            **({"memory": True} if self.body.memory else {}),
            "usage": {
                "prompt_tokens": tokens,
                "completion_tokens": 0,
                "total_tokens": tokens,
                "prompt_tokens_details": {
                    "cached_tokens": self.cached,
                    "unseen_characters": unseen + self.before.context_unseen,
                },
            },
        }

    def _details(self, index: int) -> Iterator[str]:
        """Every character of a text with its score, if asked for."""
        tally = self.tallies[index]
        if tally.scores is None or tally.scores.kept is None:
            yield "null"
            return
        ids = self.texts.prompts[index].ids[self.before.tokens :]
        rows = details(self.model.tokenizer, self.body.texts[index], ids, tally.scores.kept)
        yield "["
        yield from separated(ENCODE(block)[1:-1] for block in rows)
        yield "]"

    def _result(self, index: int) -> dict[str, Any]:
        """The score of one text, as `TextScore` has it, without its details."""
        text, prompt, tally = self.body.texts[index], self.texts.prompts[index], self.tallies[index]
        characters, bits = len(text), tally.nats * BITS
        per_character = bits / characters if characters else None
        return {
            "index": index,
            "characters": characters,
            "tokens": prompt.tokens - self.before.tokens,
            "bits": bits,
            "bits_per_character": per_character,
            "nats_per_character": tally.nats / characters if characters else None,
            "bits_per_byte": bits / len(text.encode()) if characters else None,
            "unseen_characters": prompt.unseen - self.before.unseen,
            "anomaly": None if per_character is None else self._anomaly(per_character, characters),
        }

    def _anomaly(self, bits_per_character: float, characters: int) -> dict[str, float] | None:
        held_out = self.model.held_out
        if held_out is None:
            return None
        return {
            "percentile": held_out.percentile(bits_per_character, characters),
            "reference_median_bits_per_character": held_out.median(characters),
        }


def _last_if_null(number: float | None) -> float:
    return float("inf") if number is None else number
