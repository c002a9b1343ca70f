"""Request fields that all dialects read in the same way: model name, seed, cache namespace and unknown fields."""

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

SEED_BITS = 53  # of a seed made here: every JSON parser keeps such a number exactly, also JavaScript's

NO_AUTHORIZATION = hashlib.sha256().digest()

LONGEST_HEADER = 1000  # bytes of the header that names ignored fields


def random_seed() -> int:
    """A seed for a request without one."""
    return secrets.randbits(SEED_BITS)


def seed_of(beginning: RowState | None, prompts: Sequence[str | Sequence[int]]) -> int:
    """The same for a request that may continue from a state: a text that continues keeps its seed."""
    return random_seed() if beginning is None or all(map(len, prompts)) else beginning.seed


async def asked_model(
    registry: ModelRegistry, name: str | None, request: Request, state: str | None = None
) -> ServedModel:
    """The model that a request names, if its key may use it; None and "" name the default.

    state: the state token of the request, if it has one: a model that no longer exists is then reported as a version
    that is gone, as for a stream that is resumed.
    Raises ParameterError if the query names another model; UnknownModel, VersionGone and ModelUnavailable;
    DeadlineExceeded and Disconnected if the model must be loaded.
    """
    context = request_context(request.scope)
    asked = request.query_params.get("model") if request.scope["query_string"] else None
    if asked and asked != name:
        raise ParameterError("model", "The query names a model, but the body does not name it; name it in the body.")
    try:
        if (model := registry.loaded(name, context.models)) is not None:
            return model
        return await attended(request, registry.load(name, context.models, context.arrived))
    except UnknownModel as error:
        if state is None and LAST_EVENT_ID not in request.headers:
            raise
        raise VersionGone(f"The state or stream to continue belongs to a model that is not served. {error}") from error


def namespace_of(request: Request, salt: str | None = None) -> bytes:
    """The namespace of a request's prompts in the prefix cache: one for each key and salt.

    So the time of an answer reveals nothing about the prompts of other keys. If the server has no keys, the client's
    Authorization header is used as the key.
    """
    holder = request_context(request.scope).holder
    if (own := holder) is None:
        given = header(request.scope, b"authorization")
        own = NO_AUTHORIZATION if given is None else hashlib.sha256(given.encode("latin-1")).digest()
    return own if salt is None else hashlib.sha256(hashlib.sha256(own).digest() + salt.encode("utf-8")).digest()


def origin_of(request: Request, salt: str | None = None) -> dict[str, Any]:
    """The fields of a TextRequest about its origin and the charge of its memory. salt: of its prompts."""
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
    """The state that a request continues from, if it sends one. Raises the errors of `StateTokens.read`."""
    return None if token is None else tokens.read(token, model, origin["namespace"])


def ignored_fields(names: Iterable[str]) -> dict[str, str]:
    """The header that names the unknown fields, in ASCII and of limited length."""
    some = islice(names, LONGEST_HEADER // 3)  # each takes at least three bytes, and there may be thousands
    value = ", ".join(quote(name[:LONGEST_HEADER], safe="", errors="surrogatepass") or '""' for name in some)
    if len(value) > LONGEST_HEADER:
        value = value[: LONGEST_HEADER - 5].rpartition(",")[0] + ", ..." if "," in value else value[:LONGEST_HEADER]
    return {"X-Unroll-Ignored-Fields": value} if value else {}
