"""Parser of a small form (``multipart/form-data``) with one file, in memory. Pure.

Frames arrive up to thirty times a second and fit into memory, so the parser writes no temporary files.
"""

from __future__ import annotations

from collections.abc import Collection
from email.message import Message
from typing import Final

from contracts.errors import ErrorCode, SaccadeError

#: Allowance for boundaries, headers and small fields beside the file itself.
FORM_BYTES: Final = 64 * 1024
_HEADER_BYTES: Final = 8 * 1024


def form_file(content_type: str, body: bytes, names: Collection[str]) -> bytes | None:
    """Return the bytes of the first field with one of these names; None if the body is not a form.

    Source: RFC 7578; RFC 2046, section 5.1.1.

    Raises:
        SaccadeError: MALFORMED_REQUEST, if the form is invalid; INVALID_PARAMETER, if it has no such field.
    """
    kind, boundary = _read_type(content_type)
    if kind != "multipart/form-data":
        return None
    if not boundary:
        raise _malformed("it has no boundary")
    line = b"--" + boundary.encode("latin-1", "replace")
    if body.startswith(line):
        body = b"\r\n" + body
    parts = body.split(b"\r\n" + line)
    if len(parts) < 3 or not parts[-1].startswith(b"--"):
        raise _malformed("it does not end with its boundary")
    for part in parts[1:-1]:
        head, blank, content = part.partition(b"\r\n\r\n")
        if not blank or len(head) > _HEADER_BYTES:
            raise _malformed("a field has no header")
        if _name(head) in names:
            return content
    expected = " or ".join(sorted(names))
    raise SaccadeError(
        ErrorCode.INVALID_PARAMETER,
        f"The form has no field {expected}.",
        hint=f"Send the picture as the form field {expected}, or as the whole body with Content-Type: image/jpeg.",
    )


def _read_type(content_type: str) -> tuple[str, str]:
    message = Message()
    message["Content-Type"] = content_type.replace("\r", "").replace("\n", "")
    boundary = message.get_param("boundary", "")
    return message.get_content_type(), boundary if isinstance(boundary, str) else ""


def _name(head: bytes) -> str | None:
    for line in head.split(b"\r\n"):
        label, _, value = line.partition(b":")
        if label.strip().lower() == b"content-disposition":
            message = Message()
            message["Content-Disposition"] = value.strip().decode("utf-8", "replace")
            name = message.get_param("name", None, "content-disposition")
            return name if isinstance(name, str) else None
    return None


def _malformed(reason: str) -> SaccadeError:
    return SaccadeError(
        ErrorCode.MALFORMED_REQUEST,
        f"The form cannot be read: {reason}.",
        hint="Send multipart/form-data as defined by RFC 7578.",
    )
