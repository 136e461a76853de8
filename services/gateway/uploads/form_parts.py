"""Fields of a form (``multipart/form-data``), read one after the other in pieces: no file is held in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from email.message import Message
from typing import Final, Self

from contracts.errors import ErrorCode, SaccadeError
from contracts.limits import KIB

_HEAD_BYTES: Final = 16 * KIB
_HINT: Final = "Send multipart/form-data as defined by RFC 7578."


class FormPart:
    """One field of a form: its name, the file's name and content type if it has them, and its bytes."""

    def __init__(self, head: bytes, chunks: AsyncIterator[bytes]) -> None:
        """Read the field's head.

        Raises:
            SaccadeError: MALFORMED_REQUEST.
        """
        fields = Message()
        for text in head.decode("utf-8", "replace").split("\r\n"):
            label, _, value = text.partition(":")
            fields[label.strip()] = value.strip()
        name = fields.get_param("name", header="content-disposition")
        if not isinstance(name, str):
            raise malformed("a field has no name")
        self.name = name
        self.filename = fields.get_filename()
        self.content_type = fields.get_content_type() if fields["content-type"] else ""
        #: The field's bytes; what is left of them is skipped when the next field is asked for.
        self.chunks = chunks

    async def text(self) -> str:
        """Return the value of a field that is no file.

        Raises:
            SaccadeError: MALFORMED_REQUEST, if it is too long.
        """
        value = b""
        async for chunk in self.chunks:
            value += chunk
            if len(value) > _HEAD_BYTES:
                raise malformed(f"the field {self.name[:100]!r} is too long")
        return value.decode("utf-8", "replace").strip()


class FormParts:
    """Reads the fields of one form.

    Source: RFC 7578; RFC 2046, section 5.1.1.
    """

    def __init__(self, boundary: str, stream: AsyncIterator[bytes]) -> None:
        """Read from ``stream``."""
        self._delimiter = b"\r\n--" + boundary.encode("latin-1", "replace")
        self._stream = stream
        # A form begins with its boundary, before which there need be no line break.
        self._buffer = b"\r\n"

    @classmethod
    def of(cls, content_type: str, stream: AsyncIterator[bytes]) -> Self:
        """Return the reader of a request's body by its content type.

        Raises:
            SaccadeError: MALFORMED_REQUEST.
        """
        form = Message()
        form["content-type"] = content_type.replace("\r", "").replace("\n", "")
        boundary = form.get_boundary()
        if form.get_content_type() != "multipart/form-data" or not boundary:
            raise malformed("it is no form")
        return cls(boundary, stream)

    async def parts(self) -> AsyncIterator[FormPart]:
        """Yield the fields in their order; the bytes of each have to be read before the next one.

        Raises:
            SaccadeError: MALFORMED_REQUEST.
        """
        await self._skip(self._until_delimiter())
        while not await self._ends():
            chunks = self._until_delimiter()
            yield FormPart(await self._head(), chunks)
            await self._skip(chunks)

    @staticmethod
    async def _skip(chunks: AsyncIterator[bytes]) -> None:
        async for _ in chunks:
            continue

    async def _ends(self) -> bool:
        """Return whether the boundary that was just read is the last one; read to the end of its line."""
        while len(self._buffer) < 2:
            await self._more()
        if self._buffer.startswith(b"--"):
            return True
        while (end := self._buffer.find(b"\r\n")) < 0 and len(self._buffer) < _HEAD_BYTES:
            await self._more()
        if end < 0 or self._buffer[:end].strip(b" \t"):
            raise malformed("a boundary is followed by something else than a line break")
        self._buffer = self._buffer[end:]
        return False

    async def _head(self) -> bytes:
        while (end := self._buffer.find(b"\r\n\r\n")) < 0:
            if len(self._buffer) > _HEAD_BYTES:
                raise malformed("the head of a field is too long")
            await self._more()
        head, self._buffer = self._buffer[:end], self._buffer[end + 4 :]
        return head.lstrip(b"\r\n")

    async def _until_delimiter(self) -> AsyncIterator[bytes]:
        """Yield the bytes up to the next boundary, and read over it."""
        kept = len(self._delimiter) - 1
        while (at := self._buffer.find(self._delimiter)) < 0:
            if len(self._buffer) > kept:
                piece, self._buffer = self._buffer[:-kept], self._buffer[-kept:]
                yield piece
            await self._more()
        piece, self._buffer = self._buffer[:at], self._buffer[at + len(self._delimiter) :]
        if piece:
            yield piece

    async def _more(self) -> None:
        while True:
            try:
                piece = await anext(self._stream)
            except StopAsyncIteration:
                raise malformed("it ends before its last boundary") from None
            if piece:
                self._buffer += piece
                return


def malformed(why: str) -> SaccadeError:
    """Return the error for a form that cannot be read."""
    return SaccadeError(ErrorCode.MALFORMED_REQUEST, f"The form cannot be read: {why}.", hint=_HINT)
