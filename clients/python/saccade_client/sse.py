"""Incremental parser of server-sent events (HTML Living Standard, 9.2.6). Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

_LINE_END: Final = re.compile(rb"\r\n|\n|\r")


@dataclass
class SseBlock:
    """One event block of a stream; a block without data only sets the reconnection time."""

    event: str = "message"
    id: str | None = None
    retry_ms: int | None = None
    data: list[bytes] = field(default_factory=list)

    @property
    def body(self) -> bytes:
        """The data lines, joined."""
        return b"\n".join(self.data)


class SseParser:
    """Parser of one connection's blocks; comments and an unfinished last block yield none."""

    def __init__(self) -> None:
        """Start at the beginning of a response body."""
        self._rest = b""
        self._block = SseBlock()
        self._filled = False

    @property
    def unfinished(self) -> bool:
        """Whether a block has begun and is not complete."""
        return self._filled or self._rest != b""

    def push(self, chunk: bytes) -> list[SseBlock]:
        """Parse some bytes and return the blocks that they complete."""
        whole = self._rest + chunk
        # A line feed may follow a carriage return: together they end one line.
        held = b"\r" if whole.endswith(b"\r") else b""
        *lines, rest = _LINE_END.split(whole[:-1] if held else whole)
        self._rest = rest + held
        blocks = []
        for line in lines:
            if line:
                self._take(line)
                continue
            if self._block.data or self._block.retry_ms is not None:
                blocks.append(self._block)
            self._block, self._filled = SseBlock(), False
        return blocks

    def _take(self, line: bytes) -> None:
        if line.startswith(b":"):
            return
        self._filled = True
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        text = value.decode(errors="replace")
        if name == b"data":
            self._block.data.append(value)
        elif name == b"event":
            self._block.event = text
        elif name == b"id" and "\0" not in text:
            self._block.id = text
        elif name == b"retry" and value.isdigit():
            self._block.retry_ms = int(value)
