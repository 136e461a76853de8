"""The guarded download against servers on loopback that redirect, stall, drip, lie about the size, or speak no HTTP."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from contracts.errors import ErrorCode, SaccadeError
from contracts.limits import KIB, MIB
from kit.network.address_guard import AddressGuard
from kit.network.download import Downloader, DownloadLimits
from tests.harness.network.file_servers import Talk, answer, file_server, sending
from tests.harness.webhooks.receivers import LOOPBACK, Authority, naming

pytestmark = pytest.mark.anyio
_E = ErrorCode
BODY = bytes(range(256)) * 400
TINY_CHUNKS = b"1\r\nx\r\n" * 600_000
LIMITS = DownloadLimits(
    max_bytes=1 * MIB, connect_s=2.0, first_byte_s=0.8, stall_s=0.4, min_bytes_per_s=10_000.0, total_s=5.0
)


async def fetched(
    url: str, *, guard: AddressGuard = LOOPBACK, limits: DownloadLimits = LIMITS, **more: object
) -> bytes:
    async with Downloader(guard, limits, **more).opened(url) as download:  # type: ignore[arg-type]
        return b"".join([chunk async for chunk in download.chunks()])


async def refusal(url: str, **more: object) -> SaccadeError:
    with pytest.raises(SaccadeError) as refused:
        await fetched(url, **more)  # type: ignore[arg-type]
    assert "?" not in refused.value.message, "a query may hold a secret"
    return refused.value


@pytest.mark.parametrize(
    "talk",
    [
        sending(answer(BODY, "Content-Type: Video/MP4; codecs=x")),
        sending(answer(BODY, "Connection: close")),
        sending(answer(BODY, length=None)),
        sending(answer(b"190\r\n" + b"x" * 400 + b"\r\n0\r\n\r\n", "Transfer-Encoding: chunked", length=None)),
        sending(b"HTTP/1.1 103 Early Hints\r\n\r\n", answer(BODY)),
        sending(answer(BODY)[:50], answer(BODY)[50:], pause_s=0.05),
    ],
    ids=["length", "closed", "until closed", "chunked", "early hints", "in two"],
)
async def test_a_file_is_received_whole(talk: Talk) -> None:
    async with file_server(talk) as server:
        assert await fetched(server.url("/clip.mp4?signature=secret")) in (BODY, b"x" * 400)
    assert server.targets == ["/clip.mp4?signature=secret"]
    head = server.heads[0].lower()
    assert "accept-encoding: identity\r\n" in head
    assert not any(name in head for name in ("cookie:", "authorization:", "referer:"))


@pytest.mark.parametrize(
    ("talk", "code", "says"),
    [
        (sending(answer(BODY, length=len(BODY) + 10)), _E.URL_SIZE_MISMATCH, "announced 102410 bytes and sent 102400"),
        (sending(answer(BODY, length=100)), _E.URL_SIZE_MISMATCH, "announced 100 bytes and sent more"),
        (sending(answer(BODY, "Connection: close", length=100)), _E.URL_SIZE_MISMATCH, "sent more"),
        (sending(answer(BODY[:100]), BODY, pause_s=0.03), _E.URL_SIZE_MISMATCH, "sent more"),
        (sending(answer(b"190\r\nxx", "Transfer-Encoding: chunked", length=None)), _E.URL_SIZE_MISMATCH, "complete"),
        (sending(answer(BODY, length=10 * MIB)), _E.UPLOAD_TOO_LARGE, "at most"),
        (sending(answer(BODY * 12, length=None)), _E.UPLOAD_TOO_LARGE, "at most"),
        (sending(), _E.URL_TOO_SLOW, "did not answer"),
        (sending(b"HTTP/1.1 200 OK\r\nX-A"), _E.URL_TOO_SLOW, "did not answer"),
        (sending(b"HTTP/1.1 102 Processing\r\n\r\n", forever=True, pause_s=0.001), _E.URL_TOO_SLOW, "did not answer"),
        (sending(answer(BODY[:100], length=200), hold=True), _E.URL_TOO_SLOW, "sent nothing"),
        (sending(answer(b"", length=9000), b"x", forever=True, pause_s=0.02), _E.URL_TOO_SLOW, "less than 10 kB"),
        (sending(answer(b"<html>", status="404 Not Found")), _E.URL_STATUS_ERROR, "404"),
        (sending(answer(b"", status="204 No Content", length=None)), _E.URL_STATUS_ERROR, "204"),
        (sending(answer(BODY, status="206 Partial Content")), _E.URL_STATUS_ERROR, "206"),
        (sending(answer(BODY, "Content-Encoding: gzip")), _E.URL_ANSWER_INVALID, "compressed (gzip)"),
        (sending(b"SSH-2.0-OpenSSH_9.6\r\n"), _E.URL_ANSWER_INVALID, "not valid HTTP"),
        (sending(answer(TINY_CHUNKS, "Transfer-Encoding: chunked", length=None)), _E.URL_ANSWER_INVALID, "framing"),
        (sending(b"", close=True), _E.URL_UNREACHABLE, "without an answer"),
        (sending(answer(b"", "Location: /again", status="302 Found")), _E.URL_TOO_MANY_REDIRECTS, "more than 5 times"),
        (sending(answer(b"", "Location: ftp://127.0.0.1/x", status="302 Found")), _E.URL_INVALID, "redirects"),
        (sending(answer(b"", "Location: http://u:p@127.0.0.1/", status="301 Moved")), _E.URL_INVALID, "password"),
        (sending(answer(b"", "Location: http://10.0.0.1/", status="307 Moved")), _E.URL_ADDRESS_REFUSED, "private"),
        (sending(answer(b"", "Location: //[::ffff:a00:1]/", status="308 Moved")), _E.URL_ADDRESS_REFUSED, "mapped"),
        (sending(answer(b"", "Location: http://2130706433/", status="303 See")), _E.URL_INVALID, "four numbers"),
    ],
)  # fmt: skip
async def test_a_bad_server_is_a_clear_error(talk: Talk, code: ErrorCode, says: str) -> None:
    started = time.perf_counter()
    async with file_server(talk) as server:
        refused = await refusal(server.url("/clip.mp4?signature=secret"))
    assert (refused.code, says in refused.message) == (code, True), refused
    assert time.perf_counter() - started < 4.0
    assert len(server.targets) <= 6


async def test_a_download_ends_in_time_however_much_is_sent() -> None:
    limits = replace(LIMITS, total_s=0.3)
    async with file_server(sending(answer(b"", length=MIB), b"x" * 4 * KIB, forever=True, pause_s=0.01)) as server:
        refused = await refusal(server.url("/"), limits=limits)
    assert (refused.code, refused.message) == (_E.URL_TOO_SLOW, "The file was not complete after 0.3 s.")


async def test_interim_answers_without_end_are_refused_before_the_time_is_over() -> None:
    async with file_server(sending(b"HTTP/1.1 102 Processing\r\n\r\n" * 4000, forever=True)) as server:
        refused = await refusal(server.url("/"), limits=replace(LIMITS, first_byte_s=20.0))
    assert (refused.code, "without end" in refused.message) == (_E.URL_ANSWER_INVALID, True)


async def test_redirects_are_followed_with_what_they_name() -> None:
    async with file_server(sending(answer(BODY))) as last:
        location = f"Location: {last.url('/b c.mp4?x=%2F')}#t=1"
        async with file_server(sending(answer(b"ignored", location, status="302 Found"))) as first:
            assert await fetched(first.url("/a")) == BODY
    assert last.targets == ["/b%20c.mp4?x=%2F"]


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("ftp://example.com/a", _E.URL_INVALID),
        ("file:///etc/passwd", _E.URL_INVALID),
        ("https://user:secret@example.com/a", _E.URL_INVALID),
        ("https://example.com/a#t=1", _E.URL_INVALID),
        ("https://2130706433/", _E.URL_INVALID),
        ("https://0x7f.1/", _E.URL_INVALID),
        ("https://[::ffff:127.0.0.1]/", _E.URL_INVALID),
        ("https://[::ffff:7f00:1]/", _E.URL_ADDRESS_REFUSED),
        ("http://127.0.0.1/", _E.URL_ADDRESS_REFUSED),
        ("http://169.254.169.254/latest/meta-data", _E.URL_ADDRESS_REFUSED),
        ("http://localhost/", _E.URL_ADDRESS_REFUSED),
        ("http://nats:8222/", _E.URL_ADDRESS_REFUSED),
        ("http://server.internal/", _E.URL_ADDRESS_REFUSED),
    ],
)
async def test_a_url_is_refused_before_anything_is_resolved(url: str, code: ErrorCode) -> None:
    async def lookup(host: str) -> list[str]:
        raise AssertionError(host)

    refused = await refusal(url, guard=AddressGuard(), lookup=lookup)
    assert (refused.code, "secret" in refused.message) == (code, False)


class TestNames:
    """Names that resolve to internal addresses; loopback is allowed by exactly one address."""

    GUARD = AddressGuard.allowing(["127.0.0.1"])

    @pytest.mark.parametrize("addresses", [["127.0.0.2"], ["10.1.2.3", "192.168.0.1"], ["169.254.169.254"]])
    async def test_a_name_with_internal_addresses_is_refused(self, addresses: Sequence[str]) -> None:
        async with naming(clip=[addresses]) as names:
            refused = await refusal("http://clip.example.com/", guard=self.GUARD, lookup=names.lookup)
        assert refused.code is _E.URL_ADDRESS_REFUSED
        assert not any(address in refused.message + refused.hint for address in addresses)

    async def test_each_redirect_resolves_again_and_a_rebound_name_is_refused(self) -> None:
        """The name server first answers with the allowed address, then with an internal one."""
        talk = sending(answer(b"", "Location: /b", status="302 Found"))
        async with naming(clip=[["127.0.0.1"], ["127.0.0.2"]]) as names, file_server(talk) as server:
            url = f"http://clip.example.com:{server.port}/a"
            refused = await refusal(url, guard=self.GUARD, lookup=names.lookup)
        assert refused.code is _E.URL_ADDRESS_REFUSED
        assert (server.targets, len(names.queries)) == (["/a"], 2)

    async def test_the_connection_goes_to_the_address_that_was_checked(self) -> None:
        """Nothing is resolved between check and connection: a third answer would be an internal one."""
        async with naming(clip=[["127.0.0.1", "127.0.0.2"]]) as names, file_server(sending(answer(BODY))) as server:
            url = f"http://clip.example.com:{server.port}/a"
            assert await fetched(url, guard=self.GUARD, lookup=names.lookup) == BODY
        assert f"host: clip.example.com:{server.port}\r\n" in server.heads[0].lower()

    async def test_a_name_that_does_not_exist_is_unreachable(self) -> None:
        async def lookup(host: str) -> list[str]:
            raise OSError(f"{host} is unknown")

        refused = await refusal("http://clip.example.com/", lookup=lookup)
        assert (refused.code, refused.message) == (
            _E.URL_UNREACHABLE, "The name clip.example.com cannot be resolved."
        )  # fmt: skip

    async def test_a_naming_that_does_not_answer_is_too_slow(self) -> None:
        async def lookup(host: str) -> list[str]:
            await asyncio.sleep(60)
            return [host]

        refused = await refusal("http://clip.example.com/", lookup=lookup, limits=replace(LIMITS, connect_s=0.2))
        assert (refused.code, "no connection" in refused.message) == (_E.URL_TOO_SLOW, True)


async def test_a_certificate_must_be_of_the_name(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    async with (
        naming(clip=[["127.0.0.1"]] * 2, other=[["127.0.0.1"]]) as names,
        file_server(sending(answer(BODY)), tls=authority.serving("clip.example.com")) as server,
    ):
        told = {"tls": authority.trusting(), "lookup": names.lookup}
        assert await fetched(f"https://clip.example.com:{server.port}/", **told) == BODY
        refused = await refusal(f"https://other.example.com:{server.port}/", **told)
        unknown = await refusal(f"https://clip.example.com:{server.port}/", lookup=names.lookup)
    assert (refused.code, "certificate" in refused.message) == (_E.URL_UNREACHABLE, True)
    assert (unknown.code, "certificate" in unknown.message) == (_E.URL_UNREACHABLE, True)


async def test_a_port_that_nobody_listens_on_is_unreachable() -> None:
    async with file_server(sending()) as server:
        url = server.url("/")
    assert (await refusal(url)).code is _E.URL_UNREACHABLE
