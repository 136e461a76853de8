"""Formats of what an endpoint gets: the event itself, or a message about it. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final, Literal

from contracts.events.budget import BudgetExhausted, BudgetWarned
from contracts.events.job import JobFailed, JobSucceeded
from contracts.events.rule import RuleSkipped
from contracts.events.session import SessionAlert, SessionFailed

#: What an endpoint gets: the event itself, or a message about it.
Format = Literal["cloudevents", "poke", "slack", "text", "email"]

#: Event types that a message endpoint gets which names none: what people want to be told.
MESSAGE_TYPES: Final = (
    SessionAlert.type, SessionFailed.type, JobSucceeded.type, JobFailed.type, RuleSkipped.type, BudgetWarned.type,
    BudgetExhausted.type,
)  # fmt: skip
#: Longest text of a message.
TEXT_CHARS: Final = 1500
#: Longest subject of an e-mail.
SUBJECT_CHARS: Final = 200

#: Poke's agent acts on what it is told. A text can hold what a camera was shown, so it must not be taken for a request.
_POKE_PREFIX: Final = "Notification from Saccade. It is for information and asks for no action. "
#: Discord and Mattermost notify a whole channel for a plain @everyone, which a camera may have been shown: the space of
#: no width after the sign prevents that.
_SLACK_ESCAPES: Final = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", "@": "@\u200b"})


@dataclass(frozen=True)
class MessageText:
    """A message about an event; the ``subject`` is that of an e-mail."""

    subject: str
    text: str


def cut(text: str, longest: int) -> str:
    """Return a text of at most ``longest`` characters."""
    return text if len(text) <= longest else text[: longest - 1] + "…"


def message_body(form: Format, text: str) -> tuple[bytes, str]:
    """Return the body of a message that goes by HTTP, and its content type.

    Sources: https://poke.com/docs/api; https://api.slack.com/messaging/webhooks (also read by Mattermost and, under
    ``/slack``, by Discord); a plain text body is what ntfy takes.
    """
    if form == "poke":
        return json.dumps({"message": _POKE_PREFIX + text}).encode(), "application/json"
    if form == "slack":
        return json.dumps({"text": text.translate(_SLACK_ESCAPES)}).encode(), "application/json"
    return text.encode(), "text/plain; charset=utf-8"
