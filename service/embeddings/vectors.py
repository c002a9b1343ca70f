"""Texts to vectors for one request: what it may cost is counted first, and it is read a few milliseconds at a time."""

import base64
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from model.arithmetic import Array
from model.embedding import Embedder, EmbeddingOptions
from model.errors import ParameterError
from service.api.pieces import separated
from service.api.sse import ENCODE
from service.embeddings.schemas import EmbeddingRequest
from service.inference.cost import preparing_bytes
from service.inference.served_model import ServedModel
from service.settings import Settings

ROWS = 32  # texts that are read side by side
STEP = 512  # ids of all of them that are read in one step, in some milliseconds
FLOAT, DOUBLE = 4, 8
TEXT_BYTES = 1_000  # of a text without its ids
WORKSPACE_BYTES = 40  # a weight of the widest layer, for each text that is read, at most


class Vectors:
    """The vectors of one request's texts.

    Raises ParameterError where the network lacks what is asked for, or it would be too much.
    """

    def __init__(self, body: EmbeddingRequest, model: ServedModel, settings: Settings) -> None:
        self._options = EmbeddingOptions(
            pooling=body.pooling, layer=body.layer, part=body.part, normalised=body.normalised
        )
        self.texts: Sequence[str | Sequence[int]] = body.input
        self.embedder = Embedder(
            model.decoder, model.tokenizer, self._options, rows=min(ROWS, len(self.texts)), piece=STEP
        )
        self.width = self.embedder.width if body.dimensions is None else body.dimensions
        if self.width > self.embedder.width:
            message = f"dimensions is {self.width:,}; these vectors have {self.embedder.width:,} numbers."
            raise ParameterError("dimensions", message)
        self._model, self._base64 = model, body.encoding_format == "base64"
        work = sum(map(len, self.texts)) + len(self.texts) * self.embedder.width
        if work > settings.max_work:
            message = (
                f"This would read and write {work:,} characters and numbers; this server's max_work is "
                f"{settings.max_work:,}: send fewer texts at a time."
            )
            raise ParameterError("input", message)

    @property
    def nbytes(self) -> int:
        """Most bytes of memory that it will hold, beside the request's body."""
        rows, width = min(ROWS, len(self.texts)), self.embedder.width
        floats = self._model.decoder.config.state_layout().floats
        return (
            sum(map(preparing_bytes, self.texts))
            + len(self.texts) * (TEXT_BYTES + FLOAT * width)
            + rows * (3 * FLOAT * floats + 3 * DOUBLE * width)
            + STEP * WORKSPACE_BYTES * self._model.decoder.config.hidden
        )

    def cut(self, vectors: Array) -> Array:
        """The vectors with as many numbers as are asked for."""
        if self.width == vectors.shape[1]:
            return vectors
        return np.stack([self._options.finished(vector) for vector in vectors[:, : self.width]])

    def answer(self, vectors: Array) -> Iterator[str]:
        """The answer as JSON, a vector at a time."""
        yield '{"object":"list","data":['
        yield from separated(self._one(index, vector) for index, vector in enumerate(vectors))
        tokens = self.embedder.tokens
        about = {"model": self._model.name, "usage": {"prompt_tokens": tokens, "total_tokens": tokens}}
        yield f"],{ENCODE(about)[1:]}"

    def _one(self, index: int, vector: Array) -> str:
        numbers: Any = vector.tolist()
        if self._base64:
            numbers = base64.b64encode(vector.astype("<f4").tobytes()).decode()
        return ENCODE({"object": "embedding", "index": index, "embedding": numbers})
