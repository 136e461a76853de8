"""The path of a request line is the one that an ASGI scope has, for every form of a target."""

from __future__ import annotations

import pytest

from kit.http.request_target import head_bytes, method_of, path_of, request_line, split_absolute


@pytest.mark.parametrize(
    ("line", "path"),
    [
        (b"GET /v1/jobs HTTP/1.1", "/v1/jobs"),
        (b"GET /v1/jobs?a=/v1/events HTTP/1.1", "/v1/jobs"),
        (b"GET /v1/jobs/a%2Fb HTTP/1.1", "/v1/jobs/a/b"),
        (b"GET /v1/%65vents HTTP/1.1", "/v1/events"),
        (b"GET http://host:80/v1/events?x HTTP/1.1", "/v1/events"),
        (b"GET HTTPS://host HTTP/1.1", "/"),
        (b"GET http://host?x=/y HTTP/1.1", "/"),
        (b"OPTIONS * HTTP/1.1", "*"),
        (b"GET /%0a HTTP/1.1", "/\n"),
        (b"GET /%ff HTTP/1.1", "/\ufffd"),
        (b"GET /a", "/a"),
        (b"GET", "/"),
        (b"", "/"),
        (b"\x16\x03\x01", "/"),
    ],
)
def test_path_of_a_request_line(line: bytes, path: str) -> None:
    assert path_of(line) == path


@pytest.mark.parametrize(
    ("target", "parts"),
    [
        (b"/a?b", (None, b"/a?b")),
        (b"http://h", (b"h", b"/")),
        (b"http://h:1/a?b=http://x/", (b"h:1", b"/a?b=http://x/")),
        (b"http://user@h/a", (b"user@h", b"/a")),
        (b"ftp://h/a", (None, b"ftp://h/a")),
        (b"//h/a", (None, b"//h/a")),
    ],
)
def test_an_absolute_target_has_an_authority_and_a_path(target: bytes, parts: tuple[bytes | None, bytes]) -> None:
    assert split_absolute(target) == parts


def test_the_request_line_ends_with_a_line_feed_that_may_follow_a_carriage_return() -> None:
    assert request_line(b"GET / HTTP/1.1") is None
    assert request_line(b"GET / HTTP/1.1\r\nHost: x\r\n") == b"GET / HTTP/1.1"
    assert request_line(b"GET / HTTP/1.1\nHost: x\n") == b"GET / HTTP/1.1"
    assert request_line(b"\r\nGET /") == b""
    assert method_of(b"PATCH / HTTP/1.1") == b"PATCH"


def test_the_head_ends_before_the_body() -> None:
    assert head_bytes(b"GET /\r\nA: b\r\n\r\nbody\r\n\r\n") == len(b"GET /\r\nA: b\r")
    assert head_bytes(b"GET /\nA: b\n\nbody\r\n\r\n") == len(b"GET /\nA: b")
    assert head_bytes(b"GET /\r\nA: b") == len(b"GET /\r\nA: b")
