"""Answers that are valid by a JSON Schema: tokens that would break it are masked out before one is chosen."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import llguidance
import numpy as np
import torch

from contracts.errors import ErrorCode, SaccadeError

#: Bound of numbers that have none of their own: up to it, every whole number is exact in every language.
_LARGEST: Final = 10**15
#: Written as people write JSON, on one line: small models otherwise fill the answer with white space.
_STYLE: Final[Any] = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}


class AnswerGrammars:
    """Compiles schemas for one tokenizer."""

    def __init__(self, tokenizer_json: str, vocabulary: int, end_tokens: Sequence[int]) -> None:
        """Prepare the tokenizer: about a second for 262,000 tokens."""
        self._tokenizer = llguidance.LLTokenizer(tokenizer_json, n_vocab=vocabulary, eos_token=list(end_tokens))

    def constraint(self, schema: Mapping[str, Any]) -> AnswerConstraint:
        """Return the constraint of one answer.

        Raises:
            SaccadeError: ANSWER_SCHEMA_INVALID for a schema that is not supported or that no value satisfies.
        """
        grammar = llguidance.LLMatcher.grammar_from_json_schema(json.dumps(with_bounds(schema)), overrides=_STYLE)
        matcher = llguidance.LLMatcher(self._tokenizer, grammar, log_level=0)
        if matcher.is_error():
            raise SaccadeError(ErrorCode.ANSWER_SCHEMA_INVALID, matcher.get_error().splitlines()[0])
        return AnswerConstraint(matcher)


def with_bounds(schema: Any) -> Any:
    """Return a schema whose numbers are bounded: 1e999 would be valid, and no program reads it as a number."""
    if isinstance(schema, list):
        return [with_bounds(part) for part in schema]
    if not isinstance(schema, Mapping):
        return schema
    bounded = {
        name: {own: with_bounds(part) for own, part in value.items()}
        if name == "properties"
        else with_bounds(value)
        if name in ("items", "anyOf")
        else value
        for name, value in schema.items()
    }
    if schema.get("type") in ("number", "integer"):
        bounded = {"minimum": -_LARGEST, "maximum": _LARGEST, **bounded}
    return bounded


class AnswerConstraint:
    """State of one answer in the grammar."""

    def __init__(self, matcher: llguidance.LLMatcher) -> None:
        """Begin an answer."""
        self._matcher = matcher

    def masked(self, logits: torch.Tensor) -> torch.Tensor:
        """Return the logits with -inf for every token that cannot come next."""
        bits = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        allowed = torch.from_numpy(np.unpackbits(bits, bitorder="little")[: logits.shape[-1]].astype(bool))
        return logits.masked_fill(~allowed.to(logits.device), -torch.inf)

    def accept(self, token: int) -> None:
        """Advance by the chosen token."""
        if not self._matcher.consume_token(token):
            raise RuntimeError(f"the token {token} is not in the grammar: {self._matcher.get_error()}")

    @property
    def complete(self) -> bool:
        """Whether the answer is a whole value, to which nothing can be added."""
        return bool(self._matcher.is_accepting() and self._matcher.is_stopped())
