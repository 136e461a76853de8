"""A client of a job's event stream that resumes by its cursor until the job has ended."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import aiohttp

from contracts.events import decode


@dataclass
class ResumingSubscriber:
    """A client that resumes as a browser does: by header, or by the query where headers are taken away."""

    url: str
    by_header: bool = True
    cursor: str = ""
    ids: list[str] = field(default_factory=list)
    sequences: list[int] = field(default_factory=list)
    statuses: set[int] = field(default_factory=set)

    async def follow(self) -> None:
        """Follow until the job has ended and the server says so."""
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(sock_read=20)) as session:
            while True:
                headers = {"Last-Event-ID": self.cursor} if self.cursor and self.by_header else {}
                query = {"last_event_id": self.cursor} if self.cursor and not self.by_header else {}
                try:
                    async with session.get(self.url, headers=headers, params=query) as answer:
                        self.statuses.add(answer.status)
                        if answer.status == 204:
                            return
                        await self._read(answer)
                except (aiohttp.ClientError, TimeoutError, ConnectionError):
                    pass
                await asyncio.sleep(0.02)

    async def _read(self, answer: aiohttp.ClientResponse) -> None:
        block: dict[bytes, bytes] = {}
        async for line in answer.content:
            if line != b"\n":
                name, _, value = line.removesuffix(b"\n").partition(b": ")
                block[name] = value
            elif block.get(b"id") and line.endswith(b"\n"):
                self.cursor = block[b"id"].decode()
                self.ids.append(decode(block[b"data"]).id)
                self.sequences.append(int(self.cursor.partition(".")[2]))
                block = {}
            else:
                block = {}
