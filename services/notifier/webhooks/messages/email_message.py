"""Messages as e-mails: plain text and HTML, with the same id at each attempt. Pure; the time is an argument.

Sources: RFC 5322 (fields), RFC 3834 (``Auto-Submitted``: no program answers it).
"""

from __future__ import annotations

import hashlib
import html
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from typing import Final

from services.notifier.webhooks.messages.formats import SUBJECT_CHARS, MessageText, cut

#: Name before the operator's address.
_SENDER_NAME: Final = "Saccade"
#: Characters that no mail needs: those that control terminals, and the surrogates, which UTF-8 cannot hold.
_CONTROLS: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
#: Beginning of an encoded word (RFC 2047). The library decodes one in a header, line breaks in it too: the text after
#: them would be a header of its own.
_ENCODED_WORD: Final = "=?"
#: Ids of events that can stand in a Message-ID as they are; the sender of an event chooses its id.
_PLAIN_ID: Final = re.compile(r"[A-Za-z0-9_.-]{1,200}")
_HTML: Final = """\
<!DOCTYPE html>
<html><body><p>{text}</p><hr><p><small>{footer}</small></p></body></html>
"""


@dataclass(frozen=True)
class EmailContent:
    """Text of an e-mail, and the event and endpoint that it is about."""

    message: MessageText
    event_id: str
    endpoint_id: str
    endpoint_description: str


def email_bytes(content: EmailContent, *, sender: str, recipients: Sequence[str], now: datetime) -> bytes:
    """Return an e-mail in seven bits.

    Its id follows from event and endpoint: where the same one is sent twice, because an answer was lost, mailboxes can
    tell.
    """
    domain = sender.rpartition("@")[2]
    mail = EmailMessage(policy=SMTP)
    mail["From"] = Address(_SENDER_NAME, addr_spec=sender)
    mail["To"] = [Address(addr_spec=recipient) for recipient in recipients]
    mail["Subject"] = cut(_header_text(content.message.subject), SUBJECT_CHARS)
    mail["Date"] = format_datetime(now)
    mail["Message-ID"] = f"<{_id_word(content.event_id)}.{content.endpoint_id}@{domain}>"
    mail["Auto-Submitted"] = "auto-generated"
    text, footer = _CONTROLS.sub("", content.message.text), _footer(content)
    mail.set_content(f"{text}\n\n-- \n{footer}\n", cte="quoted-printable")
    paragraph = html.escape(text).replace("\n", "<br>\n")
    mail.add_alternative(
        _HTML.format(text=paragraph, footer=html.escape(footer)), subtype="html", cte="quoted-printable"
    )
    mail.set_boundary(hashlib.sha256(f"{_id_word(content.event_id)} {content.endpoint_id}".encode()).hexdigest()[:32])
    return mail.as_bytes()


def _header_text(text: str) -> str:
    """Return a text as one line that a header holds as it is."""
    return " ".join(_CONTROLS.sub(" ", text).replace(_ENCODED_WORD, "= ?").split())


def _id_word(event_id: str) -> str:
    """Return the id of an event, or its hash where a Message-ID cannot hold it."""
    if _PLAIN_ID.fullmatch(event_id):
        return event_id
    return hashlib.sha256(event_id.encode(errors="replace")).hexdigest()


def _footer(content: EmailContent) -> str:
    described = _CONTROLS.sub(" ", f" ({content.endpoint_description})" if content.endpoint_description else "")
    event_id = _CONTROLS.sub(" ", content.event_id)
    return (
        f"Sent by Saccade for the webhook endpoint {content.endpoint_id}{described}, event {event_id}. "
        f"To stop these e-mails, delete the endpoint: saccade webhooks delete {content.endpoint_id}"
    )
