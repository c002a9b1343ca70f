"""Texts read and continued as plainly as can be, one id a step and one draw at a time: what faster paths must equal."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from model.arithmetic import Array
from model.checkpoint import Checkpoint
from model.decoding.numpy_step import NumpyStep
from model.decoding.step_weights import Quantization, StepWeights
from model.generate import Piece, TokenLogprobs
from model.sampling.parameters import SamplingParameters
from model.sampling.probabilities import likeliest, log_probabilities
from model.sampling.sampler import RowSampling, Sampler
from model.text.prompt import Prompt
from model.text.text_stream import TextStream


class PlainReader:
    """One text read by the network in numpy, an id at a time. ids: those that text is drawn from (S,)."""

    def __init__(self, checkpoint: Checkpoint, quantization: Quantization = "int8") -> None:
        config, self.ids = checkpoint.config, checkpoint.seen()
        self._step = NumpyStep(config, StepWeights.of(checkpoint, self.ids, quantization), self.ids)
        self._state = np.zeros((1, config.state_layout().floats), np.float32)

    def read(self, token: int) -> None:
        """Read one id."""
        self._step.advance(np.array([token], np.int32), self._state)

    def logits(self) -> Array:
        """The logits (1, S) of the id that comes next, among `ids`."""
        return self._step.logits(self._state)

    def every_logits(self) -> Array:
        """Its logits (V,) among all ids."""
        logits: Array = self._step.every_logits(self._state)[0]
        return logits


def distributions(
    checkpoint: Checkpoint, text: str, quantization: Quantization = "int8"
) -> Iterator[tuple[int, NDArray[np.float64]]]:
    """For each id of a text after a line break: the id, and ln p (V,) of every id there."""
    reader, last = PlainReader(checkpoint, quantization), checkpoint.tokenizer.start_id
    for token in checkpoint.tokenizer.encode(text).tolist():
        reader.read(last)
        logits = reader.every_logits().astype(np.float64)
        yield token, logits - logits.max() - np.log(np.exp(logits - logits.max()).sum())
        last = token


def write_plainly(
    checkpoint: Checkpoint,
    quantization: Quantization,
    prompt: str,
    *,
    max_tokens: int,
    parameters: SamplingParameters,
    choice: int = 0,
    logprobs: int | None = None,
) -> Iterator[Piece]:
    """What `model.generate.generate` is to write."""
    reader, stream = PlainReader(checkpoint, quantization), TextStream(checkpoint.tokenizer)
    unread = Prompt(checkpoint.tokenizer, reader.ids, prompt).ids
    row = RowSampling(parameters, reader.ids, unread, choice, logprobs)
    sampler = Sampler([row])
    reported: list[TokenLogprobs] = []
    for position in range(max_tokens):
        for token in unread.tolist():
            reader.read(token)
        logits = reader.logits()
        columns = sampler.sample(logits, np.array([position]))
        unread = reader.ids[columns].astype(np.int32)
        if row.logprobs is not None:
            reported.append(_report(reader.ids, logits, columns, row.logprobs))
        if text := stream.feed(unread.tolist()):
            yield Piece(text, None, position + 1, tuple(reported))
            reported = []
    yield Piece(stream.flush(), "length", max_tokens, tuple(reported))


def _report(ids: NDArray[np.int64], logits: Array, columns: NDArray[np.intp], count: int) -> TokenLogprobs:
    """ids: the id of each column of the logits (1, S); columns: the drawn one, (1,)."""
    logprobs = log_probabilities(logits)[0]
    top = [(int(ids[column]), float(logprobs[column])) for column in likeliest(logits, count)[0]]
    return TokenLogprobs(int(ids[columns[0]]), float(logprobs[columns[0]]), top)
