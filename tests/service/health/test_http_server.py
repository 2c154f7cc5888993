"""The HTTP address: what a request gets, and that no client can hold the loop up."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest

from nri_inject.errors import ConfigError
from nri_inject.service.health import clients
from nri_inject.service.health.http_server import HttpServer, Page, answer, listen

PAGES = {"/livez": lambda: Page(200, "ok\n"), "/readyz": lambda: Page(503, "not yet: ü\n")}


def is_readable(one: socket.socket | HttpServer, seconds: float) -> bool:
    """Wait for a descriptor of any number, which select(2) cannot."""
    poll = select.poll()
    poll.register(one, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


def response(status: str, body: str, fields: str = "") -> bytes:
    return (
        f"HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\n"
        f"Content-Length: {len(body.encode())}\r\n{fields}Cache-Control: no-store\r\n"
        f"X-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n{body}"
    ).encode()


LIVE = response("200 OK", "ok\n")


@pytest.mark.parametrize(
    "request_head",
    [
        "GET /livez HTTP/1.1\r\nHost: a\r\n",
        "GET /livez HTTP/1.0\r\n",
        "GET /livez?x=1 HTTP/1.1\r\nhost: a:1\r\nContent-Length: 0\r\nUser-Agent: kube\xff\r\n",
        "GET /livez HTTP/1.1\r\nHost:\r\nX:\ta b \r\n",
    ],
)
def test_a_probe_gets_the_page(request_head: str) -> None:
    assert answer(f"{request_head}\r\n".encode("latin-1"), PAGES) == LIVE


def test_a_head_request_gets_the_fields_alone() -> None:
    got = answer(b"HEAD /livez HTTP/1.1\r\nHost: a\r\n\r\n", PAGES)
    assert got == LIVE.removesuffix(b"ok\n")


LINE = "the first line is not METHOD /PATH HTTP/1.1"
FIELD = "a header field is not NAME: VALUE"
HOST = "a request has one Host field"
BODY = "a request has no body here"


@pytest.mark.parametrize(
    ("request_head", "why"),
    [
        ("GET http://a/livez HTTP/1.1\r\nHost: a\r\n", LINE),
        ("GET /livez HTTP/2.0\r\n", LINE),
        ("GET  /livez HTTP/1.1\r\nHost: a\r\n", LINE),
        ("GET /li\0vez HTTP/1.0\r\n", LINE),
        ("GET /livez HTTP/1.1\nHost: a\r\n", LINE),
        ("GET /livez HTTP/1.1\r\nHost : a\r\n", FIELD),
        ("GET /livez HTTP/1.1\r\nHost: a\r\n folded\r\n", FIELD),
        ("GET /livez HTTP/1.1\r\nHost: a\nX: y\r\n", FIELD),
        ("GET /livez HTTP/1.1\r\nHost: a\0\r\n", FIELD),
        ("GET /livez HTTP/1.1\r\n", HOST),
        ("GET /livez HTTP/1.1\r\nHost: a\r\nHost: a\r\n", HOST),
        ("GET /livez HTTP/1.0\r\nHost: a\r\nHost: a\r\n", HOST),
        ("GET /livez HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n", BODY),
        ("GET /livez HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n", BODY),
    ],
)
def test_a_request_that_is_not_well_formed_gets_its_fault(request_head: str, why: str) -> None:
    expected = response("400 Bad Request", f"{why}\n")
    assert answer(f"{request_head}\r\n".encode("latin-1"), PAGES) == expected


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/readyz", response("503 Service Unavailable", "not yet: ü\n")),
        ("GET", "/", response("404 Not Found", "the pages are /livez, /readyz\n")),
        (
            *("POST", "/livez"),
            response(
                *("405 Method Not Allowed", "the methods are GET and HEAD\n"),
                "Allow: GET, HEAD\r\n",
            ),
        ),
    ],
)
def test_any_other_request_gets_its_reason(method: str, path: str, expected: bytes) -> None:
    request = f"{method} {path} HTTP/1.1\r\nHost: a\r\n\r\n"
    assert answer(request.encode(), PAGES) == expected


def test_a_request_is_answered_once_it_is_whole() -> None:
    whole = b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n"
    assert [answer(whole[:end], PAGES) for end in range(len(whole))] == [None] * len(whole)
    assert answer(whole, PAGES) == LIVE


def test_a_request_without_an_end_is_refused_at_its_bound() -> None:
    endless = b"GET /livez HTTP/1.1\r\nX: " + b"x" * clients.MAX_REQUEST
    assert answer(endless[: clients.MAX_REQUEST - 1], PAGES) is None
    assert answer(endless[: clients.MAX_REQUEST], PAGES) == response(
        "431 Request Header Fields Too Large", "a request has at most 8192 bytes\n"
    )


PROBE = b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.fixture
def server() -> Iterator[HttpServer]:
    with closing(HttpServer(listen("0"), PAGES)) as one:
        yield one


def connected(server: HttpServer) -> socket.socket:
    client = socket.create_connection(server._listening.getsockname(), timeout=10)
    client.settimeout(10)
    return client


def turns(server: HttpServer, client: socket.socket) -> int:
    """Serve until a client has something to read; return how often the loop has turned."""
    count = 0
    while not is_readable(client, 0):
        assert is_readable(server, 10), "the server has nothing to do"
        server.ready()
        count += 1
    return count


def test_a_probe_is_answered_in_the_turn_that_accepts_it(server: HttpServer) -> None:
    with connected(server) as client:
        client.sendall(PROBE)
        assert turns(server, client) == 1
        assert client.recv(1 << 16) == LIVE
        assert client.recv(1) == b""
    assert server._clients == {}


def test_a_request_may_come_in_pieces(server: HttpServer) -> None:
    with connected(server) as client:
        for number in range(len(PROBE)):
            client.sendall(PROBE[number : number + 1])
            while [len(one.received) for one in server._clients.values()] == [number]:
                server.ready()
            while number == 0 and not server._clients:
                server.ready()
        assert client.recv(1 << 16) == LIVE


@pytest.mark.slow
@pytest.mark.parametrize("sent", [b"", b"GET /livez", PROBE[:-1]])
def test_a_probe_is_answered_among_1000_clients_that_never_end_their_request(
    server: HttpServer, sent: bytes
) -> None:
    with ExitStack() as silent:
        for _ in range(1000):
            client = silent.enter_context(connected(server))
            client.sendall(sent)
            server.ready()
        assert len(server._clients) <= clients.MAX_CLIENTS
        with connected(server) as probe:
            probe.sendall(PROBE)
            turns(server, probe)
            assert probe.recv(1 << 16) == LIVE


@pytest.mark.slow
def test_a_turn_answers_at_most_four_clients_however_many_there_are() -> None:
    """So the runtime, whose socket the loop reads in the same turn, waits for four pages."""
    made = 0

    def page() -> Page:
        nonlocal made
        made += 1
        return Page(200, "ok\n")

    with closing(HttpServer(listen("0"), {"/livez": page})) as server, ExitStack() as many:
        for _ in range(100):  # as many as the queue of the kernel takes at once
            many.enter_context(connected(server)).sendall(PROBE)
        in_turns: list[int] = []
        while sum(in_turns) < 100:
            assert is_readable(server, 10)
            server.ready()
            in_turns.append(made - sum(in_turns))
        assert max(in_turns) <= 4


def test_a_client_that_is_slow_is_given_up(
    server: HttpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clients, "MAX_TIME", 0.01)
    with connected(server) as client:
        client.sendall(b"GET /")
        while not is_readable(client, 0):
            assert is_readable(server, 10), "no timer woke the loop"
            server.ready()
        assert client.recv(1) == b""
    assert server._clients == {}
    assert not is_readable(server, 0)


def test_a_client_that_goes_leaves_nothing(server: HttpServer) -> None:
    with connected(server) as client:
        client.sendall(b"GET /")
        while not server._clients:
            server.ready()
    while server._clients:
        is_readable(server, 10)
        server.ready()


@pytest.mark.parametrize(
    ("address", "name"),
    [("0", "127.0.0.1"), ("127.0.0.1:0", "127.0.0.1"), ("localhost:0", "127.0.0.1")],
)
def test_it_listens_at_the_address(address: str, name: str) -> None:
    with listen(address) as listening:
        assert listening.getsockname()[0] == name
        assert listening.get_inheritable()  # by a program that takes the place of this one


def test_without_a_host_it_listens_at_all_addresses() -> None:
    with listen(":0") as listening:
        assert listening.getsockname()[0] in ("::", "0.0.0.0")
        with socket.create_connection(("127.0.0.1", listening.getsockname()[1]), timeout=10):
            pass


def test_an_address_that_cannot_be_had_is_named() -> None:
    with pytest.raises(ConfigError, match=r"http address 192\.0\.2\.1:1: Cannot assign requested"):
        listen("192.0.2.1:1")
