"""Checks of a fetched file: that its server did not send a page, and which content type it has. Pure."""

from __future__ import annotations

import re
from typing import Final

from contracts.errors import ErrorCode, SaccadeError
from contracts.events.upload import MediaFacts

#: Content types that are no file of a video, picture or ZIP, whatever their bytes are.
_PAGES: Final = re.compile(
    r"text/.*|application/(?:.+\+)?(?:json|xml)|application/(?:javascript|pdf|dash\+xml|vnd\.apple\.mpegurl|x-mpegurl)"
    r"|audio/(?:x-)?mpegurl|image/svg\+xml|multipart/.*"
)
#: How a page begins that is sent with another content type.
_PAGE_BEGINNING: Final = re.compile(rb"[\s\xef\xbb\xbf]*<(?:!doctype|html|\?xml|head|body|script)", re.IGNORECASE)
#: Content types by the decoder's name of the container; others are named after it.
_BY_CONTAINER: Final = {
    "mov": "video/mp4",
    "matroska": "video/x-matroska",
    "avi": "video/x-msvideo",
    "mpegts": "video/mp2t",
    "jpeg_pipe": "image/jpeg",
    "png_pipe": "image/png",
    "webp_pipe": "image/webp",
    "zip": "application/zip",
}


def check_beginning(content_type: str, beginning: bytes) -> None:
    """Reject a page by the content type that its server sent, or by its first bytes.

    Raises:
        SaccadeError: URL_NOT_MEDIA.
    """
    if _PAGES.fullmatch(content_type):
        raise SaccadeError(ErrorCode.URL_NOT_MEDIA, f"The URL answers with {content_type}, not with a file.")
    if _PAGE_BEGINNING.match(beginning):
        raise SaccadeError(ErrorCode.URL_NOT_MEDIA, "The URL answers with a web page, not with a file.")


def content_type_of(media: MediaFacts, *declared: str) -> str:
    """Return the first declared content type that agrees with what the decoder found, else one by the container."""
    kind = "application" if media.media == "archive" else media.media
    for content_type in declared:
        if content_type.startswith(f"{kind}/") and (kind != "application" or "zip" in content_type):
            return content_type
    return _BY_CONTAINER.get(media.container, f"{kind}/{media.container.removesuffix('_pipe')}")


def check_expected(media: MediaFacts, expected: str | None, filename: str) -> None:
    """Reject a file of the wrong media for the input that it was named for.

    Raises:
        SaccadeError: WRONG_INPUT_MEDIA.
    """
    if expected is not None and media.media != expected:
        message = f"The input takes media of type {expected}; {filename} is of type {media.media}."
        raise SaccadeError(ErrorCode.WRONG_INPUT_MEDIA, message, hint="Send the URL of a file of that media type.")
