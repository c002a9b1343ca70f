"""ASGI middleware that checks the Host header of a request, and its key on every route but the public ones."""

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.error_responses import INVALID, ErrorResponses, Failure
from service.api.front_page import asks_for_page
from service.request_context import request_context
from service.security.api_keys import ApiKey, ApiKeys
from service.security.client_identity import caller_of

PUBLIC = frozenset({"/health", "/health/live", "/health/ready"})
"""Paths that need no key, for the operators of the server. A path is public only if it is exactly one of these, so that
no new route is open because it was forgotten."""

KEY_NEEDED = Failure(
    401,
    "This server needs a key; send one of its own in the header Authorization: Bearer KEY.",
    INVALID,
    "invalid_api_key",
)
CHALLENGE = {"WWW-Authenticate": 'Bearer realm="unroll"'}


class Auth:
    """Passes on requests that name the server in their Host header and have a key if one is needed.

    keys: the valid ones; without any, every route is open. hosts: names to answer to, in lower case; None = any.
    page: paths of the files of the page for people; they need no key, and none of them has data of the server. Without
    any, `/` needs a key from browsers, too.
    The label and the digest of a request's key go into its RequestContext, also where none is needed, as do the models
    it may use, and who is charged for the request.
    """

    def __init__(
        self, app: ASGIApp, keys: ApiKeys, hosts: tuple[str, ...] | None, errors: ErrorResponses, page: frozenset[str]
    ) -> None:
        self.app = app
        self.errors = errors
        self.page = page
        self.keys = keys
        self.hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application, or answer in its place."""
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            failure, challenge = self._refusal(scope, headers)
            if failure is not None:
                await self.errors.respond(scope, failure, challenge)(scope, receive, send)
                return
            request_context(scope).caller = caller_of(scope)
        await self.app(scope, receive, send)

    def _refusal(self, scope: Scope, headers: Headers) -> tuple[Failure | None, dict[str, str]]:
        key = self._key(headers) if self.keys.needed else None
        if key is not None:
            context = request_context(scope)
            context.key, context.holder, context.models = key.label, key.digest, key.models
        elif self.keys.restricted:
            request_context(scope).models = frozenset()  # probes are told of no model
        if scope["path"] in PUBLIC and scope["method"] in ("GET", "HEAD"):
            return None, {}  # health probes use the address of a container
        host = headers.get("host")  # which only HTTP/1.0 may lack, and no browser speaks it
        if self.hosts is not None and host is not None and host_name(host) not in self.hosts:
            message = "The server does not answer to this name; --allowed-hosts lists those that it answers to."
            return Failure(421, message, INVALID, "unknown_host"), {}
        if self.keys.needed and key is None and not self._of_the_page(scope, headers):
            return KEY_NEEDED, CHALLENGE
        return None, {}

    def _of_the_page(self, scope: Scope, headers: Headers) -> bool:
        """Whether only the page is asked for: one of its files, or `/` by a browser."""
        if not self.page or scope["method"] not in ("GET", "HEAD"):
            return False
        return scope["path"] in self.page or (scope["path"] == "/" and asks_for_page(headers))

    def _key(self, headers: Headers) -> ApiKey | None:
        scheme, _, text = headers.get("authorization", "").partition(" ")
        given = text.strip() if scheme.lower() == "bearer" else headers.get("x-api-key")
        return self.keys.holder(given) if given else None


def host_name(header: str) -> str:
    """The name in a Host header, without its port, in lower case; an IPv6 address without its brackets."""
    name = header.strip().lower()
    if name.startswith("["):
        return name[1:].partition("]")[0]
    return name.rpartition(":")[0] if name.count(":") == 1 else name
