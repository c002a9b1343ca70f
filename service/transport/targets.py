"""Request targets: a whole URL, as clients send it to a proxy, becomes the path that servers usually get."""

import re

import h11

ABSOLUTE = re.compile(rb"https?://([^/?]+)([/?].*)?", re.IGNORECASE)


def origin_form(request: h11.Request) -> h11.Request:
    """The request with the path of its target; the URL's host takes the place of the Host header (RFC 9112, 3.2.2)."""
    found = None if request.target.startswith(b"/") else ABSOLUTE.fullmatch(request.target)
    if found is None:
        return request
    authority, rest = found[1], found[2] or b"/"
    others = [(name, value) for name, value in request.headers if name != b"host"]
    return h11.Request(
        method=request.method,
        target=rest if rest.startswith(b"/") else b"/" + rest,
        headers=[(b"host", authority.rpartition(b"@")[2]), *others],
        http_version=request.http_version,
    )
