"""Request fields that every dialect reads the same way: model name, seed, cache namespace and unknown fields."""

import hashlib
import secrets
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any
from urllib.parse import quote

from fastapi import Request

from model.decoding.state import RowState
from model.errors import ParameterError
from service.api.sse import HEADER as LAST_EVENT_ID
from service.api.streaming import attended
from service.errors import UnknownModel, VersionGone
from service.inference.served_model import ServedModel
from service.inference.state_tokens import StateTokens
from service.models.model_registry import ModelRegistry
from service.request_context import header, request_context

SEED_BITS = 53  # of a seed made here: every JSON parser keeps such a number exact, also JavaScript's

NO_AUTHORIZATION = hashlib.sha256().digest()

LONGEST_HEADER = 1000  # bytes of the header that names ignored fields


def random_seed() -> int:
    """A seed for a request without one."""
    return secrets.randbits(SEED_BITS)


def seed_of(beginning: RowState | None, prompts: Sequence[str | Sequence[int]]) -> int:
    """The same for one that may go on from a state: where a text goes on, so do its draws."""
    return random_seed() if beginning is None or all(map(len, prompts)) else beginning.seed


async def asked_model(
    registry: ModelRegistry, name: str | None, request: Request, state: str | None = None
) -> ServedModel:
    """The model that a request names, as far as its key may use it; None and "" name the default.

    state: the token that the request goes on from, if it does: where there is no such model any more, its version is
        gone, as it is for an event to go on after.
    Raises ParameterError where its query names another; UnknownModel, VersionGone and ModelUnavailable;
    DeadlineExceeded and Disconnected where it has to be loaded.
    """
    context = request_context(request.scope)
    asked = request.query_params.get("model") if request.scope["query_string"] else None
    if asked and asked != name:
        raise ParameterError("model", "The query names a model that the body does not name; name it in the body.")
    try:
        if (model := registry.loaded(name, context.models)) is not None:
            return model
        return await attended(request, registry.load(name, context.models, context.arrived))
    except UnknownModel as error:
        if state is None and LAST_EVENT_ID not in request.headers:
            raise
        raise VersionGone(f"What this goes on with was of a model that is not served. {error}") from error


def namespace_of(request: Request, salt: str | None = None) -> bytes:
    """The namespace of a request's prompts in the prefix cache: one for each key, and within it for each salt.

    So the time of an answer tells a client nothing about the prompts of other keys. If the server has no keys, the
    Authorization header that a client sends stands in for one.
    """
    holder = request_context(request.scope).holder
    if (own := holder) is None:
        given = header(request.scope, b"authorization")
        own = NO_AUTHORIZATION if given is None else hashlib.sha256(given.encode("latin-1")).digest()
    return own if salt is None else hashlib.sha256(hashlib.sha256(own).digest() + salt.encode("utf-8")).digest()


def origin_of(request: Request, salt: str | None = None) -> dict[str, Any]:
    """The fields of a TextRequest that say where it comes from, and what it is charged to. salt: of its prompts."""
    context = request_context(request.scope)
    return {
        "namespace": namespace_of(request, salt),
        "arrived": context.arrived,
        "caller": context.caller,
        "lease": context.lease,
    }


def beginning_of(
    token: str | None, model: ServedModel, tokens: StateTokens, origin: Mapping[str, Any]
) -> RowState | None:
    """The state that a request goes on from, if it sends one. Raises what `StateTokens.read` does."""
    return None if token is None else tokens.read(token, model, origin["namespace"])


def ignored_fields(names: Iterable[str]) -> dict[str, str]:
    """The header that names fields this server does not know, in ASCII and of bounded length."""
    some = islice(names, LONGEST_HEADER // 3)  # each takes three bytes at least, and there may be thousands
    value = ", ".join(quote(name[:LONGEST_HEADER], safe="", errors="surrogatepass") or '""' for name in some)
    if len(value) > LONGEST_HEADER:
        value = value[: LONGEST_HEADER - 5].rpartition(",")[0] + ", ..." if "," in value else value[:LONGEST_HEADER]
    return {"X-Unroll-Ignored-Fields": value} if value else {}
