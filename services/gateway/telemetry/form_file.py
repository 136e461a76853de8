"""The one file of a small form (``multipart/form-data``), found in memory. Pure.

A frame comes thirty times a second and is read whole anyway: no parser that writes files is needed for it.
"""

from __future__ import annotations

from collections.abc import Collection
from email.message import Message
from typing import Final

from contracts.errors import ErrorCode, SaccadeError

#: Beside the file itself: boundaries, headers and small fields.
FORM_BYTES: Final = 64 * 1024
_HEADER_BYTES: Final = 8 * 1024


def form_file(content_type: str, body: bytes, names: Collection[str]) -> bytes | None:
    """Give the bytes of the first field with one of these names; None when the request is no form.

    Source: RFC 7578; RFC 2046, section 5.1.1.

    Raises:
        SaccadeError: MALFORMED_REQUEST, when the form is broken; INVALID_PARAMETER, when it has no such field.
    """
    kind, boundary = _read_type(content_type)
    if kind != "multipart/form-data":
        return None
    if not boundary:
        raise _broken("it names no boundary")
    line = b"--" + boundary.encode("latin-1", "replace")
    if body.startswith(line):
        body = b"\r\n" + body
    parts = body.split(b"\r\n" + line)
    if len(parts) < 3 or not parts[-1].startswith(b"--"):
        raise _broken("it does not end with its boundary")
    for part in parts[1:-1]:
        head, blank, content = part.partition(b"\r\n\r\n")
        if not blank or len(head) > _HEADER_BYTES:
            raise _broken("a field has no header")
        if _name(head) in names:
            return content
    wanted = " or ".join(sorted(names))
    raise SaccadeError(
        ErrorCode.INVALID_PARAMETER,
        f"The form has no field {wanted}.",
        hint=f"Send the picture as the form field {wanted}, or as the whole body with Content-Type: image/jpeg.",
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


def _broken(why: str) -> SaccadeError:
    return SaccadeError(
        ErrorCode.MALFORMED_REQUEST,
        f"The form cannot be read: {why}.",
        hint="Send multipart/form-data as RFC 7578 has it.",
    )
