"""A form (``multipart/form-data``) with one file, read in pieces: neither memory nor a temporary file holds it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from email.message import Message
from typing import Final, Self

from contracts.errors import ErrorCode, SaccadeError
from contracts.limits import KIB

_HEAD_BYTES: Final = 16 * KIB
_HINT: Final = "Send the file as the only field of the form, named file."


class FormBody:
    """The file of a form whose length is known: everything between the field's head and the last boundary."""

    def __init__(self, head: Message, begun: bytes, size_bytes: int, end: bytes, stream: AsyncIterator[bytes]) -> None:
        """``begun`` are the first bytes of the file, ``end`` is what must follow the last one."""
        self.filename = head.get_filename() or "video.mp4"
        self.content_type = head.get_content_type() if head["content-type"] else ""
        self.size_bytes = size_bytes
        self._begun, self._end, self._stream = begun, end, stream

    @classmethod
    async def begin(cls, content_type: str, length_bytes: int, stream: AsyncIterator[bytes]) -> Self:
        """Read the head of the field.

        Source: RFC 7578; RFC 2046, section 5.1.1.

        Raises:
            SaccadeError: MALFORMED_REQUEST.
        """
        form = Message()
        form["content-type"] = content_type
        boundary = form.get_boundary()
        if form.get_content_type() != "multipart/form-data" or not boundary:
            raise _malformed("it is no form")
        line = b"--" + boundary.encode("latin-1", "replace")
        received = b""
        while (end := received.find(b"\r\n\r\n")) < 0:
            piece = await anext(stream, b"")
            received += piece
            if not piece or len(received) > _HEAD_BYTES + len(piece):
                raise _malformed("it has no field")
        head, begun = received[:end], received[end + 4 :]
        if not head.startswith(line + b"\r\n"):
            raise _malformed("it does not begin with its boundary")
        fields = Message()
        for text in head[len(line) + 2 :].decode("utf-8", "replace").split("\r\n"):
            name, _, value = text.partition(":")
            fields[name.strip()] = value.strip()
        if fields.get_param("name", header="content-disposition") != "file":
            raise _malformed("its first field is not the file")
        last = b"\r\n" + line + b"--\r\n"
        return cls(fields, begun, max(0, length_bytes - end - 4 - len(last)), last, stream)

    async def file(self) -> AsyncIterator[bytes]:
        """Yield the bytes of the file.

        Raises:
            SaccadeError: MALFORMED_REQUEST, if something else follows it.
        """
        waiting, left, seen = self._begun, self.size_bytes, b""
        boundary = self._end.removesuffix(b"--\r\n")
        while True:
            if chunk := waiting[:left]:
                left -= len(chunk)
                seen += chunk
                if boundary in seen:
                    raise _malformed("another field follows the file")
                seen = seen[-len(boundary) :]
                yield chunk
            rest = waiting[len(chunk) :]
            if not left:
                break
            waiting = await anext(self._stream, b"")
            if not waiting:
                raise _malformed("it ends in the file")
        while piece := await anext(self._stream, b""):
            rest += piece
            if len(rest) > len(self._end):
                break
        if rest != self._end:
            raise _malformed("it does not end with its boundary")


def _malformed(why: str) -> SaccadeError:
    return SaccadeError(ErrorCode.MALFORMED_REQUEST, f"The form cannot be read: {why}.", hint=_HINT)
