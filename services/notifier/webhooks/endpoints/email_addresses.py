"""Addresses of an endpoint for e-mail: ``mailto:`` and one to five plain addresses, nothing else. Pure.

``?subject=`` and the other fields of RFC 6068 are refused, as are quoted names, comments, addresses of machines and
escapes (%40): what is accepted has one meaning for every mail server, and cannot become a header.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from contracts.errors import ErrorCode, SaccadeError

SCHEME: Final = "mailto:"
#: Most addresses of an endpoint.
MAX_ADDRESSES: Final = 5
#: Longest address (RFC 5321, section 4.5.3.1) and name before its @.
_ADDRESS_CHARS: Final = 254
_NAME_CHARS: Final = 64

_NAME: Final = r"[A-Za-z0-9_][A-Za-z0-9_~!$'*+-]*(\.[A-Za-z0-9_~!$'*+-]+)*"
_LABEL: Final = r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_DOMAIN: Final = rf"({_LABEL}\.)+[A-Za-z]([A-Za-z0-9-]{{0,61}}[A-Za-z0-9])?"
_ADDRESS: Final = f"{_NAME}@{_DOMAIN}"
#: What every accepted URL of an endpoint for e-mail matches, for OpenAPI.
MAILTO_PATTERN: Final = rf"^{SCHEME}{_ADDRESS}(,{_ADDRESS}){{0,{MAX_ADDRESSES - 1}}}$"
_CHECKED_ADDRESS: Final = re.compile(_ADDRESS)


@dataclass(frozen=True)
class EmailRecipients:
    """Domains that the operator allows e-mails to; None: all."""

    domains: frozenset[str] | None = None

    def refusal(self, address: str) -> str | None:
        """Return why an address gets no e-mail; None if it may."""
        domain = address.rpartition("@")[2]
        if self.domains is None or domain in self.domains:
            return None
        return f"the operator of this server allows no e-mail to {domain}"


def is_address(text: str) -> bool:
    """Return whether a text is one plain address."""
    return (
        len(text) <= _ADDRESS_CHARS
        and len(text.rpartition("@")[0]) <= _NAME_CHARS
        and _CHECKED_ADDRESS.fullmatch(text) is not None
    )


def addresses_of(url: str) -> tuple[str, ...]:
    """Return the addresses of a ``mailto:`` URL, their domains in lower case.

    Raises:
        ValueError: the message says what is wrong with the URL, as a sentence.
    """
    if not url.startswith(SCHEME):
        raise ValueError(f"An e-mail goes to a URL that begins with {SCHEME}")
    if "?" in url:
        raise ValueError("The URL has fields (?subject=…): only addresses are allowed; send a subject as `subject`.")
    written = url.removeprefix(SCHEME).split(",")
    if len(written) > MAX_ADDRESSES:
        raise ValueError(f"The URL has {len(written)} addresses; an endpoint has at most {MAX_ADDRESSES}.")
    for address in written:
        if not is_address(address):
            raise ValueError(f"The URL has an invalid address: {address[:80]!r}.")
    found = tuple(f"{name}@{domain.lower()}" for name, _, domain in (address.rpartition("@") for address in written))
    if len(set(found)) < len(found):
        raise ValueError("It names an address twice.")
    return found


def check_addresses(url: str, recipients: EmailRecipients | None) -> tuple[str, ...]:
    """Return the addresses of an endpoint for e-mail; ``recipients`` is None where the server sends none.

    Raises:
        SaccadeError: INVALID_PARAMETER, EMAIL_NOT_CONFIGURED.
    """
    hint = "Send a URL like mailto:ops@example.com, or several addresses with commas."
    try:
        found = addresses_of(url)
    except ValueError as error:
        raise SaccadeError(ErrorCode.INVALID_PARAMETER, f"url: {error}", hint=hint) from None
    if recipients is None:
        raise SaccadeError(ErrorCode.EMAIL_NOT_CONFIGURED)
    for address in found:
        if why := recipients.refusal(address):
            hint = "Send another address, or have the operator add its domain to NOTIFIER_SMTP_RECIPIENT_DOMAINS."
            raise SaccadeError(ErrorCode.INVALID_PARAMETER, f"url: {address[:80]} is not allowed: {why}.", hint=hint)
    return found
