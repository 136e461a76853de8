"""Addresses of endpoints for e-mail: plain ones only, and nothing that could become a header."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import ErrorCode, SaccadeError
from services.notifier.webhooks.endpoints.email_addresses import (
    MAILTO_PATTERN,
    MAX_ADDRESSES,
    EmailRecipients,
    addresses_of,
    check_addresses,
)


@pytest.mark.parametrize(
    ("url", "addresses"),
    [
        ("mailto:ops@example.com", ("ops@example.com",)),
        ("mailto:a.b+alerts@EXAMPLE.com,o'neil@sub.example.org", ("a.b+alerts@example.com", "o'neil@sub.example.org")),
        ("mailto:x@xn--bcher-kva.example", ("x@xn--bcher-kva.example",)),
    ],
)
def test_plain_addresses_are_accepted(url: str, addresses: tuple[str, ...]) -> None:
    assert addresses_of(url) == addresses
    assert re.search(MAILTO_PATTERN, url)


@pytest.mark.parametrize(
    "url",
    [
        "mailto:",
        "mailto:ops",
        "mailto:ops@localhost",
        "mailto:ops@example.com?subject=x",
        "mailto:ops@example.com?bcc=all@example.com",
        "mailto:ops@example.com%0D%0ABcc:all@example.com",
        "mailto:ops@example.com\r\nBcc: all@example.com",
        "mailto:ops@example.com\n",
        "mailto:ops@[127.0.0.1]",
        "mailto:ops@127.0.0.1",
        'mailto:"a b"@example.com',
        "mailto:Ops <ops@example.com>",
        "mailto:ops@example.com,",
        "mailto:,ops@example.com",
        "mailto:ops@example.com, boss@example.com",
        "mailto:ops@example.com;boss@example.com",
        "mailto:.ops@example.com",
        "mailto:o..ps@example.com",
        "mailto:-oQ/tmp@example.com",
        "mailto:ops@-example.com",
        "mailto:ops@example..com",
        "mailto:ops@example.com.",
        "mailto:öps@example.com",
        "mailto:ops@bücher.example",
        "mailto://ops@example.com",
        "MAILTO:ops@example.com",
        "https://example.com/ops@example.com",
        "mailto:a@b@example.com",
        "mailto:" + ",".join(f"a{number}@example.com" for number in range(MAX_ADDRESSES + 1)),
    ],
)
def test_everything_else_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"^(The URL has|An e-mail goes to a URL that begins with mailto:)"):
        addresses_of(url)
    assert not re.fullmatch(MAILTO_PATTERN[1:-1], url)


@pytest.mark.parametrize(
    "url", [f"mailto:{'a' * 65}@example.com", f"mailto:a@{'b' * 60}.{'c' * 60}.{'d' * 60}.{'e' * 60}.{'f' * 9}.com"]
)
def test_lengths_are_those_of_smtp(url: str) -> None:
    with pytest.raises(ValueError, match="invalid address"):
        addresses_of(url)


def test_an_address_is_named_once() -> None:
    with pytest.raises(ValueError, match="twice"):
        addresses_of("mailto:ops@example.com,ops@EXAMPLE.COM")


@given(st.from_regex(MAILTO_PATTERN, fullmatch=True) | st.text().map("mailto:{}".format))
def test_what_is_accepted_has_no_character_that_a_header_or_command_reads(url: str) -> None:
    try:
        found = addresses_of(url)
    except ValueError:
        return
    assert re.search(MAILTO_PATTERN, url)
    for address in found:
        assert re.fullmatch(r"[A-Za-z0-9_~!$'*+.-]+@[a-z0-9.-]+", address)


def test_an_operator_without_a_mail_server_or_with_other_domains_refuses() -> None:
    with pytest.raises(SaccadeError) as raised:
        check_addresses("mailto:ops@example.com", None)
    assert raised.value.code is ErrorCode.EMAIL_NOT_CONFIGURED
    only = EmailRecipients(frozenset({"example.com"}))
    assert check_addresses("mailto:ops@Example.com", only) == ("ops@example.com",)
    with pytest.raises(SaccadeError, match="allows no e-mail to sub"):
        check_addresses("mailto:ops@example.com,ops@sub.example.com", only)
