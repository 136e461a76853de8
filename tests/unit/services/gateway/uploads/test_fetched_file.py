"""What can be said of a URL and of a fetched file without a network."""

from __future__ import annotations

import pytest

from contracts.errors import ErrorCode, SaccadeError
from contracts.events.upload import MediaFacts
from kit.auth.api_keys import AuthSettings
from services.gateway.settings import UrlInputSettings
from services.gateway.uploads.fetching.fetched_file import check_beginning, check_expected, content_type_of
from services.gateway.uploads.fetching.url_policy import UrlPolicy, new_fetch


def media(kind: str, container: str) -> MediaFacts:
    return MediaFacts.model_validate(
        {"media": kind, "container": container, "codec": "h264", "width_px": 64, "height_px": 48}
    )


@pytest.mark.parametrize(
    "content_type",
    [
        "text/html", "text/plain", "application/json", "application/problem+json", "application/xml", "application/pdf",
        "application/rss+xml", "image/svg+xml", "application/vnd.apple.mpegurl", "audio/x-mpegurl",
        "application/dash+xml",
    ],
)  # fmt: skip
def test_a_page_is_told_by_its_content_type(content_type: str) -> None:
    with pytest.raises(SaccadeError) as refused:
        check_beginning(content_type, b"")
    assert (refused.value.code, content_type in refused.value.message) == (ErrorCode.URL_NOT_MEDIA, True)


@pytest.mark.parametrize("beginning", [b"<!doctype html>", b"\xef\xbb\xbf\r\n <HTML>", b"<?xml version", b"<script>"])
def test_a_page_is_told_by_its_beginning(beginning: bytes) -> None:
    with pytest.raises(SaccadeError, match="web page"):
        check_beginning("video/mp4", beginning)


@pytest.mark.parametrize(
    ("content_type", "beginning"),
    [
        ("video/mp4", b"\0\0\0\x20ftypisom"), ("application/octet-stream", b"\x89PNG"), ("", b"PK\x03\x04"),
        ("binary/octet-stream", b""), ("application/mp4", b"< not a tag"), ("image/x-adobe-dng", b"II*\0"),
    ],
)  # fmt: skip
def test_a_file_is_no_page(content_type: str, beginning: bytes) -> None:
    check_beginning(content_type, beginning)


@pytest.mark.parametrize(
    ("found", "declared", "content_type"),
    [
        (media("video", "mov"), ("video/quicktime", "video/mp4"), "video/quicktime"),
        (media("video", "mov"), ("application/octet-stream", "image/png"), "video/mp4"),
        (media("video", "matroska"), ("", "video/x-matroska"), "video/x-matroska"),
        (media("video", "flv"), ("text/plain", "application/octet-stream"), "video/flv"),
        (media("image", "png_pipe"), ("video/mp4", "application/octet-stream"), "image/png"),
        (media("image", "bmp_pipe"), ("", ""), "image/bmp"),
        (media("archive", "zip"), ("application/octet-stream", ""), "application/zip"),
        (media("archive", "zip"), ("application/x-zip-compressed", ""), "application/x-zip-compressed"),
    ],
)  # fmt: skip
def test_a_content_type_agrees_with_the_content(
    found: MediaFacts, declared: tuple[str, ...], content_type: str
) -> None:
    assert content_type_of(found, *declared) == content_type


def test_a_file_must_be_of_the_media_that_its_input_takes() -> None:
    check_expected(media("video", "mov"), None, "a.mp4")
    check_expected(media("video", "mov"), "video", "a.mp4")
    with pytest.raises(SaccadeError) as refused:
        check_expected(media("image", "png_pipe"), "video", "a.mp4")
    assert refused.value.code is ErrorCode.WRONG_INPUT_MEDIA


LONG = "a" * 300
EMBEDDED = AuthSettings()
SERVER = AuthSettings(allowed_hosts=("api.example.com",))


@pytest.mark.parametrize(
    ("settings", "auth", "url", "code"),
    [
        ({}, EMBEDDED, "https://example.com/a.mp4", None),
        ({}, EMBEDDED, "http://127.0.0.1/a.mp4", ErrorCode.URL_ADDRESS_REFUSED),
        ({}, SERVER, "https://example.com/a.mp4", ErrorCode.URL_INPUT_NOT_ALLOWED),
        ({"inputs": "off"}, EMBEDDED, "https://example.com/a.mp4", ErrorCode.URL_INPUT_NOT_ALLOWED),
        ({"inputs": "public"}, SERVER, "https://example.com/a.mp4", None),
        ({"inputs": "public"}, SERVER, "http://10.1.2.3/a.mp4", ErrorCode.URL_ADDRESS_REFUSED),
        ({"inputs": "public", "allowed_networks": "10.0.0.0/8, ::1"}, SERVER, "http://10.1.2.3/a.mp4", None),
        ({"inputs": "any"}, SERVER, "http://10.1.2.3/a.mp4", None),
        ({"inputs": "any"}, SERVER, "http://169.254.169.254/latest", ErrorCode.URL_ADDRESS_REFUSED),
        ({"inputs": "any"}, SERVER, "https://a:b@example.com/", ErrorCode.URL_INVALID),
    ],
)
def test_an_operator_decides_what_is_fetched(
    settings: dict[str, str], auth: AuthSettings, url: str, code: ErrorCode | None
) -> None:
    policy = UrlPolicy(UrlInputSettings.model_validate(settings), auth)
    if code is None:
        policy.check(url)
        return
    with pytest.raises(SaccadeError) as refused:
        policy.check(url)
    assert refused.value.code is code


@pytest.mark.parametrize("networks", ["10.0.0.1/8", "inside"])
def test_a_wrong_network_is_refused_at_the_start(networks: str) -> None:
    with pytest.raises(ValueError, match="allowed_networks"):
        UrlInputSettings.model_validate({"allowed_networks": networks})


@pytest.mark.parametrize(
    ("url", "shown", "filename", "content_type"),
    [
        ("https://A.example/a/lap%201.MP4?token=hush", "https://a.example:443/a/lap%201.MP4", "lap 1.MP4", "video/mp4"),
        ("http://a.example:8080", "http://a.example:8080/", "input", "application/octet-stream"),
        ("https://a.example/%C3%A4%0A.zip?x", "https://a.example:443/%C3%A4%0A.zip", "ä.zip", "application/zip"),
        (f"https://a.example/{LONG}.png", f"https://a.example:443/{LONG}.png", f"{LONG[-251:]}.png", "image/png"),
    ],
)  # fmt: skip
def test_what_is_shown_of_a_url_is_without_its_query(url: str, shown: str, filename: str, content_type: str) -> None:
    wanted = new_fetch(UrlPolicy(UrlInputSettings(), EMBEDDED), "acme", "upl_1", url)
    assert (wanted.shown_url, wanted.filename, wanted.content_type) == (shown, filename, content_type)
    assert wanted.url == url
    assert "hush" not in repr(wanted)
