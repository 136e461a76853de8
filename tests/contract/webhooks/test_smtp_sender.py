"""Results of one attempt by e-mail at a real mail server: accepted, refused, deferred, encrypted, slow and broken."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from services.notifier.webhooks.endpoints.email_addresses import EmailRecipients
from services.notifier.webhooks.messages.email_message import EmailContent
from services.notifier.webhooks.messages.formats import MessageText
from services.notifier.webhooks.sending.smtp_sender import EmailRequest, MailServer, SmtpSender
from tests.harness.servers.embedded import HOST, free_port
from tests.harness.webhooks.mail_servers import FROM, USER, ListeningMailServer, receiving_mail
from tests.harness.webhooks.receivers import Authority, receiving

pytestmark = pytest.mark.anyio
NOW = datetime(2026, 11, 23, 9, 30, 5, tzinfo=UTC)
OPS, BOSS = "ops@example.com", "boss@example.org"


def mail(url: str = f"mailto:{OPS}", event_id: str = "evt_1", text: str = "The cube falls.") -> EmailRequest:
    return EmailRequest(url, EmailContent(MessageText("Alert dropped", text), event_id, "whk_1", "the gripper"))


def sender(server: MailServer, **options: Any) -> SmtpSender:
    return SmtpSender(server, now=lambda: NOW, **options)


@pytest.fixture
async def mailbox() -> AsyncIterator[ListeningMailServer]:
    async with receiving_mail() as one:
        yield one


async def test_an_email_says_what_happened_and_which_endpoint_sent_it(mailbox: ListeningMailServer) -> None:
    result = await sender(mailbox.server()).send(mail(f"mailto:{OPS},{BOSS}", text="Tür fällt\n<b>now</b> & .\n."))
    assert (result.status, result.error) == (250, None)
    assert result.excerpt == "250 2.0.0 Ok: queued as 1"
    (got,) = mailbox.got
    assert (got.sender, got.recipients, got.encrypted) == (FROM, (OPS, BOSS), False)
    headers = {name: str(value) for name, value in got.message.items() if name != "Content-Type"}
    assert headers == {
        "From": f"Saccade <{FROM}>",
        "To": f"{OPS}, {BOSS}",
        "Subject": "Alert dropped",
        "Date": "Mon, 23 Nov 2026 09:30:05 +0000",
        "Message-ID": "<evt_1.whk_1@saccade.example>",
        "Auto-Submitted": "auto-generated",
        "MIME-Version": "1.0",
    }
    assert got.text == "Tür fällt\n<b>now</b> & .\n."
    assert "webhook endpoint whk_1 (the gripper), event evt_1" in got.part("plain")
    assert "<p>Tür fällt<br>\n&lt;b&gt;now&lt;/b&gt; &amp; .<br>\n.</p>" in got.part("html")
    assert got.content.isascii()


async def test_the_same_message_has_the_same_id_and_another_has_not(mailbox: ListeningMailServer) -> None:
    one = sender(mailbox.server())
    for event_id in ("evt_1", "evt_1", "evt_2"):
        await one.send(mail(event_id=event_id))
    ids = [str(got.message["Message-ID"]) for got in mailbox.got]
    assert ids[0] == ids[1] != ids[2]
    assert mailbox.got[0].content == mailbox.got[1].content


@pytest.mark.parametrize(
    ("refusing", "reply", "error"),
    [
        (OPS, "450 4.2.0 Greylisted, try again", "smtp_deferred"),
        (OPS, "550 5.1.1 No such user", "smtp_refused"),
        ("DATA", "452 4.3.1 Out of disk", "smtp_deferred"),
        ("DATA", "554 5.7.1 This looks like spam", "smtp_refused"),
    ],
)
async def test_a_refusal_is_for_now_or_for_good(
    mailbox: ListeningMailServer, refusing: str, reply: str, error: str
) -> None:
    mailbox.replies[refusing] = reply
    result = await sender(mailbox.server()).send(mail())
    assert (result.status, result.error) == (int(reply[:3]), error)
    assert reply in result.excerpt
    assert mailbox.got == []


async def test_one_bad_address_does_not_keep_the_message_from_the_others(mailbox: ListeningMailServer) -> None:
    mailbox.replies[BOSS] = "550 5.1.1 No such user"
    result = await sender(mailbox.server()).send(mail(f"mailto:{OPS},{BOSS}"))
    assert (result.status, result.error) == (250, None)
    assert mailbox.got[0].recipients == (OPS,)
    assert f"{BOSS}: 550 5.1.1 No such user" in result.excerpt


async def test_nobody_gets_it_while_one_address_is_deferred_so_that_nobody_gets_it_twice(
    mailbox: ListeningMailServer,
) -> None:
    mailbox.replies[BOSS] = "451 4.7.1 Later"
    result = await sender(mailbox.server()).send(mail(f"mailto:{OPS},{BOSS}"))
    assert (result.status, result.error) == (451, "smtp_deferred")
    assert mailbox.got == []


@pytest.mark.parametrize("tls", ["starttls", "implicit"])
async def test_login_and_message_are_encrypted(tmp_path: Path, tls: str) -> None:
    authority = Authority(tmp_path)
    serving = authority.serving(HOST)
    contexts = {"starttls": serving} if tls == "starttls" else {"implicit_tls": serving}
    async with receiving_mail(**contexts, login=True) as mailbox:
        result = await sender(mailbox.server(tls=tls, user=USER), tls=authority.trusting()).send(mail())
        assert (result.status, result.error, result.excerpt) == (250, None, "250 2.0.0 Ok: queued as 1")
        assert mailbox.got[0].user == USER
        assert mailbox.got[0].encrypted or tls == "implicit"  # aiosmtpd counts its own change to TLS only


@pytest.mark.parametrize("tls", ["starttls", "implicit"])
async def test_a_certificate_of_another_name_gets_neither_password_nor_message(tmp_path: Path, tls: str) -> None:
    authority = Authority(tmp_path)
    serving = authority.serving("mail.example")
    contexts = {"starttls": serving} if tls == "starttls" else {"implicit_tls": serving}
    async with receiving_mail(**contexts) as mailbox:
        result = await sender(mailbox.server(tls=tls, user=USER), tls=authority.trusting()).send(mail())
        assert (result.status, result.error) == (None, "tls_failed")
        assert mailbox.got == []


async def test_without_starttls_nothing_is_sent(mailbox: ListeningMailServer, tmp_path: Path) -> None:
    server = mailbox.server(tls="starttls", user=USER)
    result = await sender(server, tls=Authority(tmp_path).trusting()).send(mail())
    assert (result.error, result.excerpt) == (
        "tls_failed",
        "The mail server does not change to TLS (STARTTLS).",
    )
    assert mailbox.got == []


async def test_a_wrong_password_is_named_as_such_and_not_shown() -> None:
    async with receiving_mail(login=True) as mailbox:
        result = await sender(mailbox.server(user=USER, password="a-wrong-password")).send(mail())
        assert (result.status, result.error) == (535, "smtp_auth_failed")
        assert result.excerpt == "The mail server does not accept the user or password of this server."


async def test_a_server_that_wants_a_login_tells_the_user_nothing_of_itself() -> None:
    async with receiving_mail(login=True) as mailbox:
        result = await sender(mailbox.server()).send(mail())
        assert (result.status, result.error) == (530, "smtp_deferred")
        assert result.excerpt == "The mail server takes no message from this server now (530)."


async def test_a_server_that_is_busy_is_asked_again_later() -> None:
    async def busy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"421 4.3.2 Too busy\r\n")
        await reader.read()

    async with receiving(busy) as receiver:
        server = MailServer(HOST, receiver.port, "none", FROM, EmailRecipients())
        result = await sender(server).send(mail())
        assert (result.status, result.error) == (421, "smtp_deferred")


async def test_no_mail_server_is_a_result_like_any_other() -> None:
    server = MailServer(HOST, free_port(), "none", FROM, EmailRecipients())
    result = await sender(server).send(mail())
    assert (result.status, result.error) == (None, "connect_failed")


async def test_an_operator_may_limit_the_domains(mailbox: ListeningMailServer) -> None:
    server = mailbox.server(recipients=EmailRecipients(frozenset({"example.com"})))
    assert (await sender(server).send(mail())).error is None
    result = await sender(server).send(mail(f"mailto:{BOSS}"))
    assert (result.error, mailbox.connections) == ("address_refused", 1)


async def talking(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, until: bytes) -> None:
    """Accept everything up to a command."""
    writer.write(b"220 mail.example\r\n")
    while line := await reader.readline():
        if line.startswith(until):
            return
        writer.write(b"250 OK\r\n")


@pytest.mark.parametrize(("until", "error"), [(b"", "timeout"), (b"MAIL", "too_slow"), (b"DATA", "too_slow")])
async def test_a_server_that_hangs_ends_with_the_time_of_the_attempt(until: bytes, error: str) -> None:
    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if until:
            await talking(reader, writer, until=until)
        await asyncio.sleep(60)

    async with receiving(hang) as receiver:
        server = MailServer(HOST, receiver.port, "none", FROM, EmailRecipients())
        started = time.perf_counter()
        result = await sender(server, attempt_s=0.3).send(mail())
        assert (result.status, result.error) == (None, error)
        assert time.perf_counter() - started < 3


async def test_a_server_that_drips_ends_with_the_time_of_the_attempt() -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example\r\n")
        await reader.readline()
        while True:
            writer.write(b"250-x\r\n")
            await asyncio.sleep(0.01)

    async with receiving(drip) as receiver:
        server = MailServer(HOST, receiver.port, "none", FROM, EmailRecipients())
        started = time.perf_counter()
        result = await sender(server, attempt_s=0.5).send(mail())
        assert (result.status, result.error) == (None, "too_slow")
        assert time.perf_counter() - started < 3


async def test_a_server_that_takes_its_time_with_each_reply_has_no_more_of_it_in_all() -> None:
    async def linger(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example\r\n")
        while line := await reader.readline():
            await asyncio.sleep(0.2)
            writer.write(b"354 Go on\r\n" if line == b"DATA\r\n" else b"250 OK\r\n")

    async with receiving(linger) as receiver:
        server = MailServer(HOST, receiver.port, "none", FROM, EmailRecipients())
        result = await sender(server, attempt_s=0.5).send(mail())
        assert (result.status, result.error) == (None, "too_slow")


@pytest.mark.parametrize("answer", [b"x" * 100_000, b"999 what\r\n", b"hello\r\n", b"\xff\xfe\r\n" * 3])
async def test_a_server_that_speaks_something_else_is_a_protocol_error(answer: bytes) -> None:
    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await reader.read()

    async with receiving(babble) as receiver:
        server = MailServer(HOST, receiver.port, "none", FROM, EmailRecipients())
        result = await sender(server, attempt_s=5).send(mail())
        assert (result.status, result.error) == (None, "protocol_error")


async def test_a_connection_that_ends_before_the_reply_may_have_sent_the_message() -> None:
    taken: list[bytes] = []

    async def vanish(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await talking(reader, writer, until=b"DATA")
        writer.write(b"354 Go on\r\n")
        taken.append(await reader.readuntil(b"\r\n.\r\n"))

    async with receiving(vanish) as receiver:
        one = sender(MailServer(HOST, receiver.port, "none", FROM, EmailRecipients()))
        for _ in range(2):
            result = await one.send(mail())
            assert (result.status, result.error) == (None, "connect_failed")
    assert taken[0] == taken[1], "the same message, which its id tells"


async def test_a_reply_counts_although_the_server_does_not_say_goodbye() -> None:
    async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await talking(reader, writer, until=b"DATA")
        writer.write(b"354 Go on\r\n")
        await reader.readuntil(b"\r\n.\r\n")
        writer.write(b"250 Taken\r\n")
        await asyncio.sleep(60)

    async with receiving(deaf) as receiver:
        server = MailServer(HOST, receiver.port, "none", FROM, EmailRecipients())
        result = await sender(server, attempt_s=0.5).send(mail())
        assert (result.status, result.error, result.excerpt) == (250, None, "250 Taken")


async def test_a_mail_server_gets_a_few_connections_at_a_time(mailbox: ListeningMailServer) -> None:
    mailbox.pause_s = 0.05
    one = sender(mailbox.server())
    results = await asyncio.gather(*(one.send(mail(event_id=f"evt_{number}")) for number in range(24)))
    assert [result.error for result in results] == [None] * 24
    assert mailbox.most_open <= 8
