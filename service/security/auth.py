"""ASGI middleware that checks the Host header of a request, and its key on all routes except the public ones."""

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from model.cores import available_cores
from service.api.error_responses import INVALID, ErrorResponses, Failure
from service.api.front_page import asks_for_page
from service.process.pass_budget import PassBudget
from service.request_context import header, request_context
from service.security.api_keys import ApiKey, ApiKeys
from service.security.caller_pace import REQUEST_SECONDS, CallerPace
from service.security.client_identity import caller_of

PUBLIC = frozenset({"/health", "/health/live", "/health/ready"})
"""Paths that need no key, for the operators of the server. Only exactly these paths are public, so that no new route
is open by mistake."""

KEY_NEEDED = Failure(
    401,
    "This server needs a key; send one of its own in the header Authorization: Bearer KEY.",
    INVALID,
    "invalid_api_key",
)
REFUSAL_SECONDS = 0.0008  # of the event loop, charged for a request that is refused here, with its connection
BEGUN = 4  # new requests in a pass of the event loop, and as many that had to wait; probes count apart
PASS_SECONDS = 0.005  # of the event loop; after a longer pass fewer begin
# On a single core: how long waiting requests pause, as a share of the time in which some began, so that the texts
# of these are generated and sent first. Else all would begin first, as the event loop goes before the threads that
# generate.
REST = 0.6
PROBER = "prober"  # marks the account of an address's probes, apart from its other requests
CHALLENGE = {"WWW-Authenticate": 'Bearer realm="unroll"'}


class Auth:
    """Passes on requests that name the server in their Host header and have a key if one is needed.

    keys: the valid keys; without any, every route is open. hosts: accepted host names, in lower case; None = any.
    page: paths of the files of the browser page, which need no key as they contain no data of the server. Without
    any, `/` needs a key from browsers, too.
    pace: limits the rate of requests, which cost a caller next to nothing, refused or not. The label and the digest
    of a request's key go into its RequestContext, even if no key is needed, as do the models it may use and the
    caller that is charged for the request.
    """

    def __init__(
        self,
        app: ASGIApp,
        keys: ApiKeys,
        hosts: tuple[str, ...] | None,
        errors: ErrorResponses,
        page: frozenset[str],
        pace: CallerPace,
    ) -> None:
        self.app = app
        self.errors = errors
        self.pace = pace
        rest = REST if available_cores() == 1 else 0.0
        self._begun = PassBudget(BEGUN, rest=rest, longest=PASS_SECONDS, burst=0)
        self._probes = PassBudget(BEGUN, rest=0, longest=PASS_SECONDS)
        self.page = page
        self.keys = keys
        self.hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application, or answer instead of it."""
        if scope["type"] == "http":
            failure, challenge = self._refusal(scope)
            context = request_context(scope)
            context.caller = caller = caller_of(scope)
            account = (PROBER, caller) if scope["path"] in PUBLIC else caller
            seconds = REQUEST_SECONDS if failure is None else REFUSAL_SECONDS
            place = (scope.get("client") or ("",))[0]
            if not await self.pace.turn(account, seconds, context.on_leaving, place):
                return  # nobody is there any more
            begun = self._probes if scope["path"] in PUBLIC else self._begun
            if not await begun.enter(1, context.on_leaving):
                return
            if failure is not None:
                await self.errors.respond(scope, failure, challenge)(scope, receive, send)
                return
        await self.app(scope, receive, send)

    def _refusal(self, scope: Scope) -> tuple[Failure | None, dict[str, str]]:
        key = self._key(scope) if self.keys.needed else None
        if key is not None:
            context = request_context(scope)
            context.key, context.holder, context.models = key.label, key.digest, key.models
        elif self.keys.restricted:
            request_context(scope).models = frozenset()  # probes are shown no model
        if scope["path"] in PUBLIC and scope["method"] in ("GET", "HEAD"):
            return None, {}  # health probes use the address of a container
        host = header(scope, b"host")  # may be missing only in HTTP/1.0, which no browser uses
        if self.hosts is not None and host is not None and host_name(host) not in self.hosts:
            message = "The server does not answer to this name; --allowed-hosts lists those that it answers to."
            return Failure(421, message, INVALID, "unknown_host"), {}
        if self.keys.needed and key is None and not self._of_the_page(scope):
            return KEY_NEEDED, CHALLENGE
        return None, {}

    def _of_the_page(self, scope: Scope) -> bool:
        """Whether the request is for the page: one of its files, or `/` from a browser."""
        if not self.page or scope["method"] not in ("GET", "HEAD"):
            return False
        return scope["path"] in self.page or (scope["path"] == "/" and asks_for_page(Headers(scope=scope)))

    def _key(self, scope: Scope) -> ApiKey | None:
        scheme, _, text = (header(scope, b"authorization") or "").partition(" ")
        given = text.strip() if scheme.lower() == "bearer" else header(scope, b"x-api-key")
        return self.keys.holder(given) if given else None


def host_name(header: str) -> str:
    """The name in a Host header, without its port, in lower case; an IPv6 address without its brackets."""
    name = header.strip().lower()
    if name.startswith("["):
        return name[1:].partition("]")[0]
    return name.rpartition(":")[0] if name.count(":") == 1 else name
