"""``saccade sessions ask`` and ``texts``: questions about a session's video, and what was said of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

import click
from saccade_client import Client, PromptView, SessionWord, TextView

from cli.connection import open_client, server_options
from cli.failure import INTERRUPTED
from cli.jobs.submission import read_params
from cli.output import print_json, print_line, print_note, reader_is_gone

_WAIT_S: Final = 60.0
_TYPES: Final = ("session.text", "session.alert", "session.prompt_requested")


@click.command()
@click.argument("session_id", metavar="ID")
@click.argument("question")
@click.option("--schema", metavar="JSON|@FILE", help="JSON Schema of an object: the answer satisfies it.")
@click.option("--no-wait", "at_once", is_flag=True, help="Return when the question is stored.")
@server_options
def ask(*, session_id: str, question: str, schema: str | None, at_once: bool, url: str | None, as_json: bool) -> None:
    """Send a QUESTION about the live video of a session.

    Waits up to a minute for the answer.
    """
    answer_schema = None if schema is None else read_params(schema)
    with open_client(url) as client:
        asked = client.sessions.prompt(
            session_id, question, answer_schema=answer_schema, wait_s=None if at_once else _WAIT_S
        )
    if as_json:
        print_json(asked.model_dump(mode="json"))
    else:
        _print_answer(asked)


def _print_answer(asked: PromptView) -> None:
    answer = asked.answer
    if answer is None:
        print_line(f"Question {asked.prompt_id} waits for its answer.")
        print_note(f"  to read it: saccade sessions texts {asked.session_id}")
    elif answer.error is not None:
        print_line(f"No answer: {answer.error.message}")
    else:
        print_line(answer.text if answer.answer is None else json.dumps(answer.answer, ensure_ascii=False))


@click.command()
@click.argument("session_id", metavar="ID")
@click.option("--follow", "-f", is_flag=True, help="Go on with new texts until the session has ended.")
@server_options
def texts(session_id: str, *, follow: bool, url: str | None, as_json: bool) -> None:
    """Print what was said of a session's video: texts, alerts and questions."""
    with open_client(url) as client:
        words = _followed(client, session_id) if follow else iter(client.sessions.texts(session_id))
        try:
            for word in words:
                if as_json:
                    print_json(word.model_dump(mode="json"))
                else:
                    print_line(_line(word))
                if reader_is_gone():
                    break
        except KeyboardInterrupt:
            raise SystemExit(INTERRUPTED) from None


def _followed(client: Client, session_id: str) -> Iterator[SessionWord]:
    """Yield all words of a session from its first event to its last."""
    with client.events(session_id=session_id, types=_TYPES) as events:
        for event in events:
            if event.type in _TYPES:  # gaps are reported too
                yield SessionWord(type=event.type, time=event.time or "", data=event.data)


def _line(word: SessionWord) -> str:
    if alert := word.alert:
        return f"{'alert':>14}  {alert.rule}: {alert.condition} ({alert.confidence:.2f})"
    if text := word.text:
        return f"{_span(text):>14}  {_said(text)}"
    return f"{'question':>14}  {word.data.get('text', '')}"


def _span(text: TextView) -> str:
    if text.start_s is None or text.end_s is None:
        return f"chunk {text.chunk}"
    return f"{text.start_s:.1f}-{text.end_s:.1f} s"


def _said(text: TextView) -> str:
    said: Any = text.error.message if text.error else text.text
    notes = [text.finish_reason] if text.finish_reason != "complete" else []
    if text.dropped:
        notes.append(f"{text.dropped} frames dropped")
    return f"{said} ({', '.join(notes)})" if notes else str(said)
