"""Credentials of clients of replaced systems: none, a word, or a segment of the path. Each is mapped explicitly. Pure.

Such a client cannot send an API key. The operator decides which key stands for what it sends, per system; without a
mapping, it is treated as every other client.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from kit.auth.mapped_credential import MappedCredential
from services.gateway.settings import ReplacedCredential

_EVERY_SYSTEM: Final = "*"


@dataclass(frozen=True)
class Presented:
    """Credentials in a request: an API key in a header, a segment of its path, a word in a header or in the query."""

    has_authorization: bool = False
    segment: str | None = None
    header: str | None = None
    query: str | None = None

    @property
    def word(self) -> str | None:
        """The word, which may be empty: a header wins over the query even then, as in the replaced system."""
        return next((text for text in (self.segment, self.header, self.query) if text is not None), None)


class ReplacedCredentials:
    """The operator's mapping."""

    def __init__(self, entries: Sequence[ReplacedCredential], *, authenticated: bool) -> None:
        """``authenticated`` says whether this server requires API keys."""
        self._authenticated = authenticated
        self._words = [(entry.system, _digest(word), entry.key) for entry in entries if (word := entry.secret_word)]
        self._without: dict[str, str] = {entry.system: entry.key for entry in entries if not entry.secret_word}

    def mapped(self, system: str, presented: Presented) -> MappedCredential | None:
        """Return the key for a client of a system, or its refusal; None: it is authenticated as any other client."""
        words = [(digest, key) for name, digest, key in self._words if name in (system, _EVERY_SYSTEM)]
        if presented.word is not None:
            sent = _digest(presented.word)
            # All are compared, so that the time tells nothing.
            matching = [key for digest, key in words if hmac.compare_digest(sent, digest)]
            if matching:
                return MappedCredential(matching[0])
        if self._authenticated and (presented.has_authorization or presented.segment is not None):
            return None  # an API key
        key_id = self._without.get(system) or self._without.get(_EVERY_SYSTEM)
        if words and (presented.word is not None or key_id is None):
            return MappedCredential(None)
        return MappedCredential(key_id, ambient=True) if key_id else None


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
