"""XML of S3's answers and of the one request that has a body of XML."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote_plus
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape

#: In any namespace: servers differ in whether they send one.
_ANY: Final = "{*}"


@dataclass(frozen=True)
class S3Answer:
    """Complete answer of an S3 server."""

    headers: Mapping[str, str]
    body: bytes = b""

    @property
    def etag(self) -> str:
        """Entity tag without quotes; empty if the server sent none."""
        return self.headers.get("ETag", "").strip('"')


@dataclass(frozen=True)
class S3ErrorBody:
    """Error as S3 describes it."""

    code: str
    region: str | None


class InvalidAnswer(Exception):  # noqa: N818 - the server's fault
    """The body is not the XML of S3."""


def error_in(body: bytes) -> S3ErrorBody | None:
    """Return the error that a body describes; None if it is another document or none."""
    if b"<Error" not in body[:400]:
        return None
    try:
        root = _parsed(body)
    except InvalidAnswer:
        return None
    if root.tag.rpartition("}")[2] != "Error":
        return None
    return S3ErrorBody(_text(root, "Code"), _text(root, "Region") or None)


def multipart_id(body: bytes) -> str:
    """Return the id of a multipart upload that was started.

    Raises:
        InvalidAnswer: there is none.
    """
    if not (found := _text(_parsed(body), "UploadId")):
        raise InvalidAnswer
    return found


def completed_etag(body: bytes) -> str:
    """Return the entity tag of a completed upload, without quotes.

    Raises:
        InvalidAnswer: the body is not XML.
    """
    return _text(_parsed(body), "ETag").strip('"')


def parts_page(body: bytes) -> tuple[list[dict[str, Any]], str | None]:
    """Return uploaded parts (number, size in bytes, entity tag with quotes), and where the next page begins.

    Raises:
        InvalidAnswer: the body is not XML.
    """
    root = _parsed(body)
    parts = [
        {
            "part_number": int(_text(part, "PartNumber")),
            "size_bytes": int(_text(part, "Size")),
            "etag": _text(part, "ETag"),
        }
        for part in root.iterfind(f"{_ANY}Part")
    ]
    return parts, _text(root, "NextPartNumberMarker") if _is_truncated(root) else None


def keys_page(body: bytes) -> tuple[list[str], str | None]:
    """Return the keys of a list of objects, and the token of the next page.

    Raises:
        InvalidAnswer: the body is not XML.
    """
    root = _parsed(body)
    keys = [_text(entry, "Key") for entry in root.iterfind(f"{_ANY}Contents")]
    if _text(root, "EncodingType") == "url":
        keys = [unquote_plus(key) for key in keys]
    return keys, _text(root, "NextContinuationToken") if _is_truncated(root) else None


def parts_document(parts: Iterable[tuple[int, str]]) -> bytes:
    """Return the body that completes an upload of parts (number, entity tag)."""
    listed = "".join(
        f"<Part><ETag>{escape(etag)}</ETag><PartNumber>{number}</PartNumber></Part>" for number, etag in parts
    )
    namespace = "http://s3.amazonaws.com/doc/2006-03-01/"
    return f'<CompleteMultipartUpload xmlns="{namespace}">{listed}</CompleteMultipartUpload>'.encode()


def _parsed(body: bytes) -> ET.Element:
    try:
        return ET.fromstring(body)  # noqa: S314 - expat limits the expansion of entities, and the server is our own
    except ET.ParseError as error:
        raise InvalidAnswer(str(error)) from error


def _text(element: ET.Element, name: str) -> str:
    return element.findtext(f"{_ANY}{name}") or ""


def _is_truncated(root: ET.Element) -> bool:
    return _text(root, "IsTruncated") == "true"
