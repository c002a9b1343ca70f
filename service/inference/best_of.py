"""Ranks the texts drawn for a prompt by the mean log-probability of their ids."""

import numpy as np

from service.engine.output import Grown, Piece
from service.engine.text_request import TextRequest


def mean_logprob(piece: Piece) -> float:
    """The mean log-probability of the ids of a text; 0 for a text without ids."""
    if piece.logprobs is None or not len(piece.logprobs.logprobs):
        return 0.0
    return float(piece.logprobs.logprobs.mean(dtype=np.float64))


def best(ended: Grown, request: TextRequest, prompts: int) -> Grown:
    """The n best of the `request.drawn` whole texts of each prompt, best first; of equals the earlier one is first."""
    n, drawn = request.n, request.drawn
    chosen: Grown = []
    for prompt in range(prompts):
        pieces = [piece for _, piece in ended[prompt * drawn : (prompt + 1) * drawn]]
        pieces.sort(key=mean_logprob, reverse=True)  # a stable sort keeps the order of equals
        chosen += [(prompt * n + at, piece) for at, piece in enumerate(pieces[:n])]
    if request.logprobs is None:
        chosen = [(index, piece._replace(logprobs=None)) for index, piece in chosen]
    return chosen
