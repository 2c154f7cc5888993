"""Pages at an HTTP address: the part of HTTP/1.1 that a probe and a scrape need.

Each connection has one request, without a body. A package for HTTP would parse much more.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from nri_inject.errors import ConfigError
from nri_inject.service.health.clients import MAX_REQUEST, Clients

LOOPBACK: Final = "127.0.0.1"
"""The host of an address that is only a port."""

_BACKLOG: Final = 128
_END: Final = b"\r\n\r\n"
# RFC 9112, 3: a method is a token; here a target is a path of visible ASCII.
_REQUEST_LINE: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) (/[!-~]*) HTTP/1\.([0-9])")
# RFC 9112, 5: a name, a colon at once, and a value without control characters.
_FIELD: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t -~\x80-\xff]*)")
_REASONS: Final[Mapping[int, str]] = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    431: "Request Header Fields Too Large",
    503: "Service Unavailable",
}


class Page(NamedTuple):
    """The answer to a request."""

    status: int
    body: str
    type: str = "text/plain; charset=utf-8"


Pages = Mapping[str, Callable[[], Page]]
"""Makes the page of each path."""


def listen(address: str) -> socket.socket:
    """Return a socket that listens at an address; ConfigError if that is not possible.

    The address is `HOST:PORT`, `:PORT` for all addresses of the network namespace, or `PORT` for
    the loopback address. A program that takes the place of this one inherits the socket.
    """
    host, colon, port = address.rpartition(":")
    host = host.strip("[]")
    try:
        if colon and not host:
            both = socket.has_dualstack_ipv6()
            listening = socket.create_server(
                ("", int(port)),
                family=socket.AF_INET6 if both else socket.AF_INET,
                dualstack_ipv6=both,
                backlog=_BACKLOG,
            )
        else:
            listening = socket.create_server(
                (host or LOOPBACK, int(port)),
                family=socket.AF_INET6 if ":" in host else socket.AF_INET,
                backlog=_BACKLOG,
            )
    except OSError as error:
        number = error.errno or 0  # negative if the name of the host is not known
        why = os.strerror(number) if number > 0 else error.strerror
        raise ConfigError(f"http address {address}: {why}") from error
    listening.set_inheritable(True)
    return listening


class HttpServer(Clients):
    """Answer requests for pages; a Watch of the stub's loop."""

    def __init__(self, listening: socket.socket, pages: Pages) -> None:
        super().__init__(listening, lambda received: answer(received, pages))


def answer(received: bytes, pages: Pages) -> bytes | None:
    """Return the response to a request, None while it is not whole."""
    head, end, _ = received.partition(_END)
    if not end:
        if len(received) < MAX_REQUEST:
            return None
        return _response(Page(431, f"a request has at most {MAX_REQUEST} bytes\n"))
    line, *fields = head.split(b"\r\n")
    request = _REQUEST_LINE.fullmatch(line)
    if request is None:
        return _bad("the first line is not METHOD /PATH HTTP/1.1")
    method, target, minor = request.groups()
    names: list[bytes] = []
    for field in fields:
        found = _FIELD.fullmatch(field)
        if found is None:
            return _bad("a header field is not NAME: VALUE")
        name, value = found[1].lower(), found[2].strip()
        if name == b"transfer-encoding" or (name == b"content-length" and value != b"0"):
            return _bad("a request has no body here")
        names.append(name)
    if names.count(b"host") != 1 and (minor != b"0" or b"host" in names):
        return _bad("a request has one Host field")
    make = pages.get(target.partition(b"?")[0].decode("ascii"))
    if make is None:
        return _response(Page(404, f"the pages are {', '.join(pages)}\n"))
    if method not in (b"GET", b"HEAD"):
        return _response(Page(405, "the methods are GET and HEAD\n"), "Allow: GET, HEAD\r\n")
    return _response(make(), with_body=method == b"GET")


def _bad(why: str) -> bytes:
    return _response(Page(400, f"{why}\n"))


def _response(page: Page, fields: str = "", *, with_body: bool = True) -> bytes:
    body = page.body.encode(errors="replace")
    head = (
        f"HTTP/1.1 {page.status} {_REASONS[page.status]}\r\n"
        f"Content-Type: {page.type}\r\nContent-Length: {len(body)}\r\n{fields}"
        "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + (body if with_body else b"")
