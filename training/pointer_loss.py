"""The loss of a window with attention, computed only from the target's probability.

With L the logarithm of the sum of exp of all scores, s_0 the sentinel's and s_i the others,

    -ln p(y) = L - ln(exp(s_0 + ln softmax(z)_y) + Σ_{i: x_{i+1} = y} exp s_i),

so neither the distribution over all ids nor a scatter is needed. Its gradient with respect to s_i is i's share of all
scores minus its share of the scores followed by y. The forward pass already computes both and stores them in place of
the scores, so the backward pass needs only matrix products. On processors that multiply bfloat16 in hardware,
pointer.c computes everything between the matrix products.
"""

from collections.abc import Sequence
from ctypes import c_float, c_int64, c_void_p
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from model.cells.attention import KEY
from model.cells.torch_attention import Attention, followed_by
from model.decoding.kernel_library import load_library, typed
from model.network import State

RAREST = 1e-30


def pointer_loss(
    attention: Attention, heard: Tensor, logits: Tensor, ids: Tensor, targets: Tensor, state: State
) -> tuple[Tensor, State]:
    """The sum of the nats of all targets, a scalar; and the attention's state after them.

    heard: the output layer's input (T, B, W). logits: (T, B, V). ids, targets: (B, T); a target below 0 does not
    count.
    state: the attention's, before them.
    """
    nats = F.cross_entropy(logits.float().flatten(0, 1), targets.t().flatten(), reduction="none")
    own = -nats.view(logits.shape[:2]).t()
    if logits.device.type == "cpu" and torch.is_autocast_enabled("cpu") and _functions() is not None:
        followed = followed_by(state[1], ids)
        before = state[0].to(torch.int8)
        loss, keys = _CompiledLoss.apply(  # type: ignore[no-untyped-call]
            own, attention.project(heard), attention.recency, before, followed, targets
        )
        return loss, [keys, followed[:, -attention.window :].float()]
    window = attention.read(heard, ids, state)
    loss = _PointerLoss.apply(  # type: ignore[no-untyped-call]
        own, window.sentinel, window.query, window.keys, attention.recency, window.followed, targets
    )
    return loss, window.state()


class _PointerLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        context: Any,
        own: Tensor,
        sentinel: Tensor,
        query: Tensor,
        keys: Tensor,
        recency: Tensor,
        followed: Tensor,
        targets: Tensor,
    ) -> Tensor:
        with torch.autocast(query.device.type, enabled=False):
            scores = torch.bmm(query, keys.transpose(1, 2))
        nats, *slopes = _judged(own, sentinel, scores, recency, followed, targets)
        context.save_for_backward(query, keys, *slopes)
        return nats.sum()

    @staticmethod
    @once_differentiable
    def backward(context: Any, above: Tensor) -> tuple[Tensor | None, ...]:
        query, keys, own, sentinel, scores, recency = context.saved_tensors
        of_query, of_keys = torch.bmm(scores, keys), torch.bmm(scores.transpose(1, 2), query)
        return own * above, sentinel * above, of_query * above, of_keys * above, recency * above, None, None


def _judged(
    own: Tensor, sentinel: Tensor, scores: Tensor, recency: Tensor, followed: Tensor, targets: Tensor
) -> tuple[Tensor, ...]:
    """The nats of each target (B, T); and the gradients of their sum with respect to own and sentinel (B, T), the
    scores (B, T, window + T) and recency (window - 1,)."""
    count, length = scores.shape[1], len(recency) + 1
    places = torch.arange(scores.shape[2], device=scores.device)
    distance = length + torch.arange(count, device=places.device)[:, None] - places
    place = (distance - 1).clamp(0, length - 2)
    allowed = ((distance >= 1) & (distance < length)) & (followed > 0)[:, None]
    scores = (scores + recency[place]).masked_fill_(~allowed, -torch.inf)
    most = torch.maximum(scores.amax(2), sentinel)
    shares = (scores - most[..., None]).exp_()
    first = (sentinel - most).exp()
    whole = shares.sum(2) + first
    says = allowed & (followed[:, None] == targets[..., None] + 1)
    alone = first * own.exp()
    hit = (shares * says).sum(2) + alone
    lost, hit, counts = hit < RAREST, hit.clamp(min=RAREST), targets >= 0
    nats = (whole.log() - torch.where(lost, sentinel - most + own, hit.log())) * counts
    of_own = -torch.where(lost, 1.0, alone / hit) * counts
    shares = (shares / whole[..., None] - shares * says / hit[..., None]) * counts[..., None]
    at = length + torch.arange(count, device=places.device)[:, None] - torch.arange(1, length, device=places.device)
    by_distance = shares.sum(0).gather(1, at).sum(0)  # each sum in a fixed order, also on a GPU
    return nats, of_own, (first / whole) * counts + of_own, shares, by_distance


class _CompiledLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        context: Any,
        own: Tensor,
        projected: Tensor,
        recency: Tensor,
        before: Tensor,
        followed: Tensor,
        targets: Tensor,
    ) -> tuple[Tensor, Tensor]:
        count, rows, outputs = projected.shape
        window = len(recency) + 1
        query, slopes = (torch.empty(rows, count, KEY, dtype=torch.bfloat16) for _ in range(2))
        keys = torch.empty(rows, window + count, KEY, dtype=torch.bfloat16)
        sentinel = torch.empty(rows, count)
        after = torch.empty_like(before)
        projected, before = projected.to(torch.bfloat16).contiguous(), before.contiguous()
        sizes = rows, count, window
        _call("pointer_read", *sizes, outputs, projected, before, query, keys, slopes, sentinel, after)
        scores = torch.bmm(query, keys.transpose(1, 2))  # of bfloat16 numbers, with or without autocast
        nats, of_own, of_sentinel = (torch.empty(rows, count) for _ in range(3))
        of_recency = torch.zeros(window - 1)
        given = own.contiguous(), sentinel, recency.flip(0), followed.int(), targets.int().contiguous()
        _call("pointer_judge", *sizes, scores, *given, nats, of_own, of_sentinel, of_recency)
        context.save_for_backward(query, keys, slopes, scores, of_own, of_sentinel, of_recency.flip(0))
        context.outputs = outputs
        context.mark_non_differentiable(after)
        return nats.sum(), after

    @staticmethod
    @once_differentiable
    def backward(context: Any, above: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        query, keys, slopes, scores, of_own, of_sentinel, of_recency = context.saved_tensors
        rows, count, _ = query.shape
        window = keys.shape[1] - count
        of_query = torch.bmm(scores, keys)
        of_keys = torch.bmm(scores[:, :, window:].transpose(1, 2), query)  # keys before the window have no gradient
        found = torch.empty(count, rows, context.outputs, dtype=torch.bfloat16)
        arrays = of_query, of_keys, slopes, of_sentinel, found
        _call("pointer_go_back", rows, count, context.outputs, float(above), *arrays)
        return of_own * above, found, of_recency * above, None, None, None


def _call(name: str, *arguments: Tensor | float) -> None:
    functions = _functions()
    assert functions is not None
    functions[name](*(one.data_ptr() if isinstance(one, Tensor) else one for one in arguments))


@cache
def _functions() -> dict[str, Any] | None:
    """The functions of pointer.c; None if it was not compiled, or this processor cannot run it."""
    library = load_library(Path(__file__).parent, "_lstm")
    number, array = c_int64, c_void_p
    kinds: dict[str, Sequence[Any]] = {
        "pointer_read": [number] * 4 + [array] * 7,
        "pointer_judge": [number] * 3 + [array] * 10,
        "pointer_go_back": [number] * 3 + [c_float] + [array] * 5,
    }
    if library is None or not library.supported_lstm() or not all(hasattr(library, name) for name in kinds):
        return None
    return {name: typed(getattr(library, name), *kind, result=None) for name, kind in kinds.items()}
