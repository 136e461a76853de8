"""E-mails whose values others have chosen: a header of an e-mail stays one header."""

from __future__ import annotations

from datetime import UTC, datetime
from email import message_from_bytes
from email.policy import default

import pytest

from services.notifier.webhooks.messages.email_message import EmailContent, email_bytes
from services.notifier.webhooks.messages.formats import MessageText

_NAMES = {"From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted", "MIME-Version", "Content-Type"}


def sent(subject: str = "Job failed", event_id: str = "evt_1") -> bytes:
    content = EmailContent(MessageText(subject, "text"), event_id, "whk_1", "")
    return email_bytes(content, sender="saccade@a.example", recipients=["b@b.example"], now=datetime.now(UTC))


@pytest.mark.parametrize(
    "subject",
    ["=?utf-8?q?a=0ABcc:_x@b.example?=", "lap =?utf-8?b?YQ0KQmNjOiB4QGIuZXhhbXBsZQ==?= 1", "a\r\nBcc: x@b.example"],
)
def test_a_subject_is_one_header(subject: str) -> None:
    mail = sent(subject)
    head = mail.partition(b"\r\n\r\n")[0]
    assert b"\n" not in head.replace(b"\r\n", b""), "a bare line break"
    assert set(message_from_bytes(head.replace(b"\r\n", b"\n"), policy=default).keys()) == _NAMES


@pytest.mark.parametrize(
    "event_id", ["a\nBcc: x@b.example", "a> <b", "<@>", "é", "\ud800", "=?utf-8?q?a=0ABcc:_x?=", "x" * 5000]
)
def test_an_event_may_have_any_id(event_id: str) -> None:
    first = message_from_bytes(sent(event_id=event_id), policy=default)
    assert set(first.keys()) == _NAMES
    again = message_from_bytes(sent(event_id=event_id), policy=default)
    other = message_from_bytes(sent(event_id=event_id + "2"), policy=default)
    assert first["Message-ID"] == again["Message-ID"] != other["Message-ID"]
    assert str(first["Message-ID"]).endswith(".whk_1@a.example>")
