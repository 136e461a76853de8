"""Parses server-sent events as bytes come (HTML Living Standard, 9.2.6). Pure; knows no connection."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

_LINE_END: Final = re.compile(rb"\r\n|\n|\r")


@dataclass
class SseBlock:
    """One block of a stream as the wire has it; without data it only says when to come again."""

    event: str = "message"
    id: str | None = None
    retry_ms: int | None = None
    data: list[bytes] = field(default_factory=list)

    @property
    def body(self) -> bytes:
        """Give the lines of data as one."""
        return b"\n".join(self.data)


class SseParser:
    """One connection's blocks; a comment is none, nor is a last block that was cut off."""

    def __init__(self) -> None:
        """Begin at the start of a body."""
        self._rest = b""
        self._block = SseBlock()
        self._filled = False

    @property
    def unfinished(self) -> bool:
        """Tell whether something has come that no block is made of yet."""
        return self._filled or self._rest != b""

    def push(self, chunk: bytes) -> list[SseBlock]:
        """Take some bytes and give the blocks that they complete."""
        whole = self._rest + chunk
        # A line feed may follow a carriage return and belong to it.
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
