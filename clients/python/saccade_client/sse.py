"""Incremental parser of an event stream (HTML Living Standard, 9.2.5 and 9.2.6). Pure.

The work is proportional to the bytes, however they are cut: a line's beginning is stored, not searched again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from saccade_client.errors import ClientError

#: Longest reconnection time that a stream can ask for.
MAX_RETRY_MS: Final = 60_000
#: Most bytes that an unfinished event may have. The server's events are at most 1 MiB (contracts/limits.py).
MAX_EVENT_BYTES: Final = 16 * 1024 * 1024

#: Text of the comment behind the history.
_LIVE: Final = b"live"
_BOM: Final = b"\xef\xbb\xbf"
_LINE_ENDS: Final = (b"\n", b"\r")


@dataclass
class SseBlock:
    """One event of a stream."""

    event: str = "message"
    #: The id of this block; None if it has none.
    id: str | None = None
    data: list[bytes] = field(default_factory=list)
    #: The id of this block, or of the newest before it.
    last_event_id: str = ""
    #: It came after the history.
    live: bool = False

    @property
    def body(self) -> bytes:
        """The data lines, joined."""
        return b"\n".join(self.data)

    @property
    def text(self) -> str:
        """The data as text; bytes that are not UTF-8 are replaced."""
        return self.body.decode(errors="replace")


class SseParser:
    """Parser of one connection's events; an unfinished last block is dropped."""

    def __init__(self, last_event_id: str = "") -> None:
        """Start at the beginning of a response body, of a stream that resumes after ``last_event_id``."""
        #: Where to resume; a block sets it at its end, also if it has no data.
        self.last_event_id = last_event_id
        #: Reconnection time; a line sets it immediately. None: the stream has set none.
        self.retry_ms: int | None = None
        #: Beginning of a line whose end has not been received.
        self._line = bytearray()
        self._first_line = True
        #: The last byte was a carriage return, which ended a line; a line feed after it belongs to the same line end.
        self._after_return = False
        self._event = ""
        self._id: str | None = None
        self._data: list[bytes] = []
        self._data_bytes = 0
        #: The history has ended, as a comment of the server says.
        self.live = False
        #: Comments without text: one begins a stream, others come only when it is live.
        self.empty_comments = 0

    @property
    def unfinished(self) -> bool:
        """Whether a line or an event has begun and is not complete."""
        return bool(self._line or self._event or self._id is not None or self._data)

    def push(self, chunk: bytes) -> list[SseBlock]:
        """Parse some bytes and return the events that they complete.

        Raises:
            ClientError: ``event_too_large``.
        """
        if not chunk:
            return []
        if self._after_return:
            chunk = chunk.removeprefix(b"\n")
        self._after_return = chunk.endswith(b"\r")
        # Lines of bytes end with LF, CR or CR LF only; those of text would end with other characters too.
        lines = chunk.splitlines()
        rest = lines.pop() if lines and not chunk.endswith(_LINE_ENDS) else b""
        if lines and self._line:
            lines[0] = bytes(self._line + lines[0])
            self._line.clear()
        blocks = [block for line in lines if (block := self._take(line)) is not None]
        self._line += rest
        self._check_size()
        return blocks

    def _take(self, line: bytes) -> SseBlock | None:
        """Apply a line; return the event that it completes."""
        if self._first_line:
            self._first_line = False
            line = line.removeprefix(_BOM)
        if not line:
            return self._end_block()
        name, _, value = line.partition(b":")  # of a comment the name is empty
        value = value.removeprefix(b" ")
        if not name:
            self.live = self.live or value == _LIVE
            self.empty_comments += not value
        elif name == b"data":
            self._data.append(value)
            self._data_bytes += len(value) + 1
            self._check_size()
        elif name == b"event":
            self._event = value.decode(errors="replace")
        elif name == b"id" and b"\0" not in value:
            self._id = value.decode(errors="replace")
        elif name == b"retry" and value.isdigit():
            digits = value.lstrip(b"0") or b"0"
            self.retry_ms = MAX_RETRY_MS if len(digits) > 9 else min(int(digits), MAX_RETRY_MS)
        return None

    def _end_block(self) -> SseBlock | None:
        if self._id is not None:
            self.last_event_id = self._id
        block = None
        if self._data:
            block = SseBlock(self._event or "message", self._id, self._data, self.last_event_id, self.live)
        self._event, self._id, self._data, self._data_bytes = "", None, [], 0
        return block

    def _check_size(self) -> None:
        if len(self._line) + self._data_bytes > MAX_EVENT_BYTES:
            message = f"The stream has an event of more than {MAX_EVENT_BYTES // 2**20} MiB."
            hint = "Check that the address is a Saccade server's, and that no proxy in front of it changes the stream."
            raise ClientError("event_too_large", message, hint)
