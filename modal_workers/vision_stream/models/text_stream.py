"""Text of an answer while its tokens come: whole characters, with the spaces that the tokenizer puts between tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

#: How a tokenizer decodes bytes that are not a whole character.
_INCOMPLETE: Final = "�"


class TextStream:
    """Decodes tokens one by one.

    A token alone does not tell its text: a leading space depends on the tokens before it, and a character can have
    several tokens. So the tokens since the last but one text are decoded together, and what is new is passed on.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str], on_text: Callable[[str], None]) -> None:
        """Set what decodes tokens, and what gets the new text."""
        self._decode, self._on_text = decode, on_text
        self._tokens: list[int] = []
        self._parts: list[str] = []
        #: Tokens from here are decoded; those before ``_passed_on`` are in ``text``.
        self._from, self._passed_on = 0, 0

    @property
    def text(self) -> str:
        """Everything that was passed on."""
        return "".join(self._parts)

    def push(self, token: int) -> None:
        """Add a token, and pass on the text that it completes."""
        self._tokens.append(token)
        before, new = self._decoded()
        if len(new) > len(before) and not new.endswith(_INCOMPLETE):
            self._pass_on(new[len(before) :])

    def end(self) -> None:
        """Pass on what the model itself ended with an incomplete character."""
        before, new = self._decoded()
        if len(new) > len(before):
            self._pass_on(new[len(before) :])

    def _decoded(self) -> tuple[str, str]:
        return self._decode(self._tokens[self._from : self._passed_on]), self._decode(self._tokens[self._from :])

    def _pass_on(self, text: str) -> None:
        self._from, self._passed_on = self._passed_on, len(self._tokens)
        self._parts.append(text)
        self._on_text(text)
