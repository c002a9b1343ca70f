"""Request fields that every dialect reads the same way: model name, seed, cache namespace and unknown fields."""

import hashlib
import secrets
from collections.abc import Iterable
from urllib.parse import quote

from fastapi import Request

from service.errors import UnknownModel
from service.inference.served_model import ServedModel
from service.request_context import request_context

SEED_BITS = 53  # of a seed made here: a number every JSON reader keeps exact, JavaScript's included

LONGEST_HEADER = 1000  # bytes of the names of ignored fields


def random_seed() -> int:
    """A seed for a request that has none."""
    return secrets.randbits(SEED_BITS)


def check_model(name: str | None, model: ServedModel) -> None:
    """Raise UnknownModel where a request names another model than the one that is served."""
    if name is not None and name != model.name:
        raise UnknownModel(f"There is no model {name[:100]!r}; this server has {model.name!r}.")


def namespace_of(request: Request) -> bytes:
    """Whose prompts are kept together: how long an answer takes tells nobody what was asked with another key.

    Where the server knows no keys, whatever a client sends as one keeps its prompts apart.
    """
    holder = request_context(request.scope).holder
    return holder or hashlib.sha256(request.headers.get("authorization", "").encode("latin-1")).digest()


def ignored_fields(names: Iterable[str]) -> dict[str, str]:
    """The header that names fields which are not known: some ASCII of bounded length, whatever they are called."""
    value = ", ".join(quote(name[:LONGEST_HEADER], safe="", errors="surrogatepass") or '""' for name in names)
    if len(value) > LONGEST_HEADER:
        value = value[: LONGEST_HEADER - 5].rpartition(",")[0] + ", ..." if "," in value else value[:LONGEST_HEADER]
    return {"X-Unroll-Ignored-Fields": value} if value else {}
