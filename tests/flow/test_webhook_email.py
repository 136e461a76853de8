"""Endpoints for e-mail on the ledger of webhooks: schedule, records, redelivery, and a mail server that hangs."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from services.notifier.webhooks.deliveries.delivery import DeliveryAttempt
from services.notifier.webhooks.endpoints.email_addresses import EmailRecipients
from services.notifier.webhooks.endpoints.quiet_hours import QuietHours
from services.notifier.webhooks.sending.lanes import EMAIL_POOL
from services.notifier.webhooks.sending.smtp_sender import MailServer, SmtpSender
from tests.harness.servers.embedded import HOST, EmbeddedNats
from tests.harness.streams.notifier import Publisher, failed, publisher
from tests.harness.webhooks.delivery import RunningWebhooks, run_webhooks
from tests.harness.webhooks.listeners import listening
from tests.harness.webhooks.mail_servers import FROM, receiving_mail
from tests.harness.webhooks.receivers import receiving

pytestmark = pytest.mark.anyio

OPS = "ops@example.com"
TYPES = ("job.failed",)


async def fail_a_job(bus: Publisher) -> str:
    job = await bus.submit()
    await bus.start(job)
    await bus.say(job, failed())
    return job


def attempts(here: RunningWebhooks, endpoint_id: str) -> tuple[DeliveryAttempt, ...]:
    """Return the attempts of the endpoint's newest delivery."""
    found = here.view.list(endpoint_id, limit=1)[0]
    return here.view.attempts(endpoint_id, found[0].sequence) if found else ()


async def test_an_email_is_recorded_like_a_webhook_and_sent_again_when_asked(nats_server: EmbeddedNats) -> None:
    settings = nats_server.settings
    async with (
        receiving_mail() as mailbox,
        publisher(settings) as bus,
        run_webhooks(settings, smtp=SmtpSender(mailbox.server())) as here,
    ):
        endpoint = await here.make(
            f"mailto:{OPS}",
            format="email",
            types=TYPES,
            template="{{job.title}} failed: {{error.message}}, {{error.hint}}",
            subject="{{job.workload}}: {{error.code}}",
        )
        job = await fail_a_job(bus)
        (delivery,) = await here.settled(endpoint.id, 1)
        (attempt,) = attempts(here, endpoint.id)
        assert (attempt.status, attempt.error, attempt.url_origin) == (250, None, "mailto:example.com")
        assert attempt.response_excerpt == "250 2.0.0 Ok: queued as 1"
        (got,) = mailbox.got
        assert (got.recipients, str(got.message["Subject"])) == ((OPS,), "lap_compare: clip_too_short")
        assert got.text == "Lap comparison failed: m, h"
        assert job not in got.part("plain")
        await here.redeliver(endpoint, sequences=[delivery.sequence])
        await mailbox.wait(2)
        assert {str(again.message["Message-ID"]) for again in mailbox.got} == {
            f"<{delivery.event_id}.{endpoint.id}@saccade.example>"
        }


async def test_a_deferred_email_is_sent_later_and_a_refused_one_is_not(nats_server: EmbeddedNats) -> None:
    settings = nats_server.settings
    async with (
        receiving_mail() as mailbox,
        publisher(settings) as bus,
        run_webhooks(settings, smtp=SmtpSender(mailbox.server())) as here,
    ):
        deferred = await here.make(f"mailto:{OPS}", format="email", types=TYPES)
        refused = await here.make("mailto:gone@example.com", format="email", types=TYPES)
        mailbox.replies = {OPS: "450 4.2.0 Greylisted", "gone@example.com": "550 5.1.1 No such user"}
        await fail_a_job(bus)
        await here.settled(refused.id, 1, "failed")
        (final,) = attempts(here, refused.id)
        assert (final.status, final.error, final.next_attempt_at) == (550, "smtp_refused", None)
        await here.until(lambda: len(attempts(here, deferred.id)) == 1)
        (first,) = attempts(here, deferred.id)
        assert (first.status, first.error) == (450, "smtp_deferred")
        assert first.next_attempt_at
        assert first.next_attempt_at - first.at >= timedelta(seconds=60)
        mailbox.replies.clear()
        here.pass_(minutes=2)
        await here.settled(deferred.id, 1)
        assert [got.recipients for got in mailbox.got] == [(OPS,)]
        await fail_a_job(bus)  # an endpoint is not given up by one refusal
        await here.settled(refused.id, 1)


async def test_an_email_whose_reply_is_lost_is_sent_twice_with_one_id(nats_server: EmbeddedNats) -> None:
    settings = nats_server.settings
    taken: list[bytes] = []

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example\r\n")
        while line := await reader.readline():
            writer.write(b"354 Go on\r\n" if line == b"DATA\r\n" else b"250 OK\r\n")
            if line == b"DATA\r\n":
                taken.append(await reader.readuntil(b"\r\n.\r\n"))
                if len(taken) == 1:
                    return  # before the reply
                writer.write(b"250 Taken\r\n")

    async with receiving(take) as server:
        smtp = SmtpSender(MailServer(HOST, server.port, "none", FROM, EmailRecipients()))
        async with publisher(settings) as bus, run_webhooks(settings, smtp=smtp) as here:
            endpoint = await here.make(f"mailto:{OPS}", format="email", types=TYPES)
            await fail_a_job(bus)
            await here.until(lambda: len(attempts(here, endpoint.id)) == 1)
            assert attempts(here, endpoint.id)[0].error == "connect_failed"
            here.pass_(minutes=1)
            await here.settled(endpoint.id, 1)
    ids = [line for mail in taken for line in mail.splitlines() if line.startswith(b"Message-ID:")]
    assert len(ids) == 2
    assert len(set(ids)) == 1


async def test_emails_wait_for_the_end_of_quiet_hours(nats_server: EmbeddedNats) -> None:
    settings, now = nats_server.settings, datetime.now(UTC)
    quiet = QuietHours(start=f"{now - timedelta(hours=1):%H:%M}", end=f"{now + timedelta(hours=2):%H:%M}")
    async with (
        receiving_mail() as mailbox,
        publisher(settings) as bus,
        run_webhooks(settings, smtp=SmtpSender(mailbox.server())) as here,
    ):
        sleeper = await here.make(f"mailto:{OPS}", format="email", types=TYPES, quiet_hours=quiet)
        awake = await here.make("mailto:awake@example.com", format="email", types=TYPES)
        await fail_a_job(bus)
        await here.settled(awake.id, 1)
        assert here.states(sleeper.id) == ["pending"]
        here.pass_(hours=2, minutes=1)
        await here.settled(sleeper.id, 1)


async def test_a_mail_server_that_hangs_delays_no_webhook(nats_server: EmbeddedNats) -> None:
    """Not even where there are more endpoints for e-mail than attempts in flight: those of e-mails are few."""
    settings, open_now, most_open = nats_server.settings, 0, 0

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal open_now, most_open
        open_now += 1
        most_open = max(most_open, open_now)
        try:
            await reader.read()
            await asyncio.sleep(60)
        finally:
            open_now -= 1

    async with receiving(hang) as server, listening() as web:
        smtp = SmtpSender(MailServer(HOST, server.port, "none", FROM, EmailRecipients()), attempt_s=60)
        async with publisher(settings) as bus, run_webhooks(settings, smtp=smtp) as here:
            for number in range(3 * EMAIL_POOL):
                await here.make(f"mailto:ops{number}@example.com", format="email", types=TYPES)
            endpoint = await here.make(web.url, types=TYPES)
            for _ in range(3):
                await fail_a_job(bus)
            await here.settled(endpoint.id, 3)
            await here.until(lambda: most_open == EMAIL_POOL)
            assert here.webhooks.engine.attempting == EMAIL_POOL


async def test_an_endpoint_outlives_the_operators_mail_server(nats_server: EmbeddedNats) -> None:
    settings = nats_server.settings
    async with publisher(settings) as bus, run_webhooks(settings) as here:
        endpoint = await here.make(f"mailto:{OPS}", format="email", types=TYPES)
        await fail_a_job(bus)
        await here.until(lambda: len(attempts(here, endpoint.id)) == 1)
        (attempt,) = attempts(here, endpoint.id)
        assert (attempt.error, attempt.next_attempt_at is not None) == ("email_not_configured", True)
