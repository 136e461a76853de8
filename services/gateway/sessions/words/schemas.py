"""JSON bodies of the routes for the words of a session."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, Field

from contracts.events.session import SessionAlert, SessionPromptRequested, SessionText
from contracts.limits import ANSWER_SCHEMA_BYTES, PROMPT_CHARS
from kit.http.request_body import RequestBody


class NewPrompt(RequestBody):
    """A question about the live video."""

    text: str = Field(min_length=1, max_length=PROMPT_CHARS, examples=["What is left of the red cube?"])
    answer_schema: dict[str, Any] | None = Field(
        default=None,
        description=f"JSON Schema of an object, at most {ANSWER_SCHEMA_BYTES} bytes: the answer satisfies it.",
    )


class PromptObject(BaseModel):
    """A question and, once the worker has given it, its answer."""

    prompt_id: str
    session_id: str
    text: str
    answer_schema: dict[str, Any] | None
    state: Literal["waiting", "answered"]
    answer: SessionText | None = Field(description="The text that answers the question.")


class TextItem(BaseModel):
    """A text of the session."""

    type: Literal["session.text"] = "session.text"
    time: datetime
    data: SessionText


class AlertItem(BaseModel):
    """An alert of the session."""

    type: Literal["session.alert"] = "session.alert"
    time: datetime
    data: SessionAlert


class PromptItem(BaseModel):
    """A question that a client has asked."""

    type: Literal["session.prompt_requested"] = "session.prompt_requested"
    time: datetime
    data: SessionPromptRequested


class TextPage(BaseModel):
    """A page of texts, alerts and questions, oldest first."""

    data: list[TextItem | AlertItem | PromptItem]
    next_cursor: str | None = Field(description="Send it as `cursor` for the next page; null on the last one.")
    cursor: str = Field(
        description="Position after this page: send it as `cursor` to read what came since, or follow `links.events`."
    )
