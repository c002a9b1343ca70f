"""Texts as vectors: what the network carries after a text, or on average while it reads it."""

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from model.arithmetic import Array
from model.config import NetworkConfig
from model.decoding.rows import AnyDecoder
from model.errors import ParameterError
from model.text.prompt import Prompt
from model.text.tokenizer import Tokenizer

Pooling = Literal["last", "mean"]
Part = Literal["hidden", "cell"]
ROWS = 64
PIECE = 1024  # ids of each text that are held in one array


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingOptions:
    """What of the state a vector is made of.

    pooling: the state after the text, or the mean of the states after each of its ids.
    layer: of which layer, from 0 up or from -1, the last, down; None joins all of them.
    part: the hidden state, or the cell state, which only an LSTM has. normalised: divide by the length of the vector.
    Raises ParameterError on another pooling or part.
    """

    pooling: Pooling = "last"
    layer: int | None = -1
    part: Part = "hidden"
    normalised: bool = True

    def __post_init__(self) -> None:
        for name, value, choices in (("pooling", self.pooling, Pooling), ("part", self.part, Part)):
            if value not in get_args(choices):
                raise ParameterError(name, f"{name} is {value!r}; choose {' or '.join(get_args(choices))}.")
        if self.layer is not None and type(self.layer) is not int:
            raise ParameterError("layer", f"layer is {self.layer!r}; choose a whole number, or none for all layers.")

    def columns(self, config: NetworkConfig) -> NDArray[np.intp]:
        """Which columns of a row's state the vector is made of (D,). Raises ParameterError where there is none."""
        if self.layer is not None and not -config.layers <= self.layer < config.layers:
            message = f"layer is {self.layer}; this network's are 0 to {config.layers - 1}, or -1 for the last."
            raise ParameterError("layer", message)
        names = [config.layer_state(layer) for layer in range(config.layers)]
        at = list(get_args(Part)).index(self.part)
        if at >= len(names[0]):
            raise ParameterError(
                "part", f"part is cell; this network is of {config.cell.upper()} cells, choose hidden."
            )
        chosen = names if self.layer is None else [names[self.layer]]
        layout = config.state_layout()
        return np.concatenate([np.arange(layout.floats)[layout[one[at]]] for one in chosen])

    def finished(self, vector: NDArray[np.float64] | Array) -> Array:
        """A vector (D,) as it is handed out; a vector of zeros stays as it is."""
        if not self.normalised:
            return vector.astype(np.float32)
        length = math.sqrt(math.fsum((vector.astype(np.float64) ** 2).tolist()))  # exact, so alike everywhere
        return (vector / (length or 1.0)).astype(np.float32)


class Embedder:
    """Reads texts side by side; for one thread at a time. A text's vector depends on the text and the options alone.

    rows: texts that are read side by side. piece: ids of all of them that one step of `steps` reads, about.
    width: how many numbers a vector has. Raises ParameterError where the network lacks what the options name.
    """

    def __init__(
        self,
        decoder: AnyDecoder,
        tokenizer: Tokenizer,
        options: EmbeddingOptions,
        rows: int = ROWS,
        piece: int = ROWS * PIECE,
    ) -> None:
        self._decoder, self._tokenizer, self._options, self._slots = decoder, tokenizer, options, rows
        self._piece = piece
        self._columns = options.columns(decoder.config)
        self.width = len(self._columns)
        self.tokens = 0
        """Ids of the texts that were read."""

    def embed(self, texts: Sequence[str]) -> Array:
        """The vectors (n, D) of some texts. Raises TokenizerError on text that is not Unicode."""
        steps = self.steps(texts)
        while True:
            try:
                next(steps)
            except StopIteration as end:
                vectors: Array = end.value
                return vectors

    def steps(self, texts: Sequence[str | Sequence[int]]) -> Generator[None, None, Array]:
        """The same, of texts or their ids, with a pause after each step."""
        vectors = np.zeros((len(texts), self.width), np.float32)
        prompts = []
        for text in texts:
            prompts.append(Prompt(self._tokenizer, self._decoder.ids, text))
            self.tokens += prompts[-1].tokens
            yield
        order = sorted(range(len(texts)), key=lambda at: -len(prompts[at].ids))
        for start in range(0, len(order), self._slots):
            block = order[start : start + self._slots]
            vectors[block] = yield from self._block([prompts[at] for at in block])
        return vectors

    def _block(self, prompts: list[Prompt]) -> Generator[None, None, Array]:
        """The vectors of some texts, the longest first."""
        rows = self._decoder.rows(len(prompts))
        mean = self._options.pooling == "mean"
        lengths = np.array([len(prompt.ids) for prompt in prompts])
        # an empty text is what stands for it
        own = np.array([prompt.lead if prompt.tokens else 0 for prompt in prompts])
        sums = np.zeros((len(prompts), self.width))
        at, reading, read = 0, len(prompts), 0
        while reading:
            most = max(1, min(PIECE, self._piece // reading))
            until = 1 if mean else min(most, int(lengths[reading - 1]) - at)
            slots = np.arange(reading)
            rows.read(slots, np.stack([prompt.ids[at : at + until] for prompt in prompts[:reading]]))
            at += until
            if mean:
                sums[:reading] += np.array(rows.state[slots])[:, self._columns] * (at > own[:reading])[:, None]
            read += until * reading
            reading = int(np.count_nonzero(lengths > at))
            if read >= self._piece:
                read = 0
                yield
        if mean:
            vectors = sums / (lengths - own)[:, None]
        else:
            vectors = np.array(rows.state[np.arange(len(prompts))])[:, self._columns].astype(np.float64)
        return np.stack([self._options.finished(vector) for vector in vectors])
