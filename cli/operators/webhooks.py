"""``saccade webhooks``: endpoints that events are sent to, and their deliveries."""

from __future__ import annotations

import itertools
from typing import Any

import click
from saccade_client import DeliveryView, WebhookTest, WebhookView

from cli.connection import open_client, server_options
from cli.failure import USAGE, Failure
from cli.jobs.events import parse_since
from cli.output import print_json, print_line, print_note, print_table


@click.group()
def webhooks() -> None:
    """Send signed events to your own server.

    docs/webhooks.md describes how to receive them.
    """


@webhooks.command("list")
@server_options
def list_all(url: str | None, as_json: bool) -> None:
    """List your endpoints."""
    with open_client(url) as client:
        found = client.webhooks.all()
    if as_json:
        for endpoint in found:
            print_json(endpoint.model_dump(mode="json", exclude={"secret"}))
    elif found:
        rows = [
            (endpoint.id, _state(endpoint), " ".join(endpoint.types) or "all", endpoint.url, endpoint.description)
            for endpoint in found
        ]
        print_table(("ENDPOINT", "STATE", "EVENTS", "URL", "DESCRIPTION"), rows)
    else:
        print_line("No webhooks.")


@webhooks.command()
@click.argument("endpoint_url", metavar="ENDPOINT")
@click.option(
    "--type", "types", multiple=True, help="Only events of this type, for example job.failed or job.*; may be repeated."
)
@click.option("--description", default="", help="A note for yourself.")
@click.option("--header", "headers", multiple=True, metavar="NAME=VALUE", help="Add this header to each request.")
@click.option("--rate", "rate_per_s", type=click.FloatRange(0.00001, 1000), help="Limit of requests per second.")
@click.option("--ordered", is_flag=True, help="Deliver the events of a job strictly in order.")
@click.option(
    "--signing",
    type=click.Choice(["v1", "v1a", "both"]),
    default="v1",
    show_default=True,
    help="v1: HMAC with a secret; v1a: Ed25519 with a public key.",
)
@click.option(
    "--format",
    "body_format",
    type=click.Choice(["cloudevents", "poke", "slack", "text", "email"]),
    default="cloudevents",
    show_default=True,
    help="The event itself, or a message about it: for Poke, Slack and the like, as plain text, or by e-mail to "
    "mailto:ADDRESS.",
)
@click.option("--template", help="Text of its messages with values: '{{job.title}} failed: {{error.message}}'.")
@click.option("--subject", help="Subject of its e-mails, with the same values.")
@click.option("--quiet", metavar="START-END[@ZONE]", help="Send nothing then: 22:00-07:00@Europe/Berlin.")
@server_options
def create(
    *,
    endpoint_url: str,
    types: tuple[str, ...],
    description: str,
    headers: tuple[str, ...],
    rate_per_s: float | None,
    ordered: bool,
    signing: str,
    body_format: str,
    template: str | None,
    subject: str | None,
    quiet: str | None,
    url: str | None,
    as_json: bool,
) -> None:
    """Send new events to the URL ENDPOINT.

    The secret that signs them is shown once. docs/messages.md lists the values of templates.
    """
    with open_client(url) as client:
        made = client.webhooks.create(
            endpoint_url,
            types=types,
            description=description,
            headers=dict(_parse_header(header) for header in headers),
            rate_per_s=rate_per_s,
            ordered=ordered,
            signing=signing,
            format=body_format,
            quiet_hours=None if quiet is None else _parse_quiet(quiet),
            template=template,
            subject=subject,
        )
    _show_secret(made, as_json=as_json)


@webhooks.command("rotate-secret")
@click.argument("webhook_id", metavar="ID")
@click.option("--overlap", default="1d", show_default=True, help="How long the old secret also signs: 0s to 7d.")
@server_options
def rotate_secret(webhook_id: str, overlap: str, url: str | None, as_json: bool) -> None:
    """Replace an endpoint's secret.

    For a while requests are signed with both.
    """
    seconds = _overlap_s(overlap)
    with open_client(url) as client:
        made = client.webhooks.rotate_secret(webhook_id, overlap_s=seconds)
    _show_secret(made, as_json=as_json)


@webhooks.command("default-secret")
@click.option("--rotate", is_flag=True, help="Replace the secret.")
@click.option("--overlap", default="1d", show_default=True, help="How long the old secret also signs: 0s to 7d.")
@server_options
def default_secret(*, rotate: bool, overlap: str, url: str | None, as_json: bool) -> None:
    """Show or replace the default secret.

    It signs the webhooks of jobs' own webhook_url.
    """
    seconds = _overlap_s(overlap)
    with open_client(url) as client:
        hooks = client.webhooks
        found = hooks.rotate_default_secret(overlap_s=seconds) if rotate else hooks.default_secret()
    if as_json:
        print_json({"secret": found})
    else:
        print_line(found)


@webhooks.command()
@click.argument("webhook_id", metavar="ID")
@server_options
def test(webhook_id: str, url: str | None, as_json: bool) -> None:
    """Send a test event to an endpoint.

    The endpoint's answer is shown.
    """
    with open_client(url) as client:
        answer = client.webhooks.test(webhook_id)
    if as_json:
        print_json(answer.model_dump(mode="json"))
    elif answer.delivered:
        print_line(f"The endpoint answered {answer.status} after {answer.latency_ms:.0f} ms.")
        if answer.message:
            print_line(f"{answer.message['subject']}\n{answer.message['text']}")
    if not answer.delivered:
        outcome = f"it answered {answer.status}" if answer.status else (answer.error or "no answer").replace("_", " ")
        message = f"The test event was not delivered: {outcome} after {answer.latency_ms:.0f} ms."
        if excerpt := answer.response_excerpt.strip():
            message += f" Its answer begins with: {excerpt[:200]!r}"
        raise Failure(message, code=answer.error or "not_delivered", hint=_test_hint(answer))


@webhooks.command()
@click.argument("webhook_id", metavar="ID")
@click.option(
    "--state", type=click.Choice(["pending", "delivered", "failed", "cancelled"]), help="Only deliveries in this state."
)
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="How many, newest first.")
@server_options
def deliveries(webhook_id: str, state: str | None, limit: int, url: str | None, as_json: bool) -> None:
    """List the deliveries to an endpoint.

    ID may be a job's id, for its own webhook_url.
    """
    with open_client(url) as client:
        listed = list(itertools.islice(client.webhooks.deliveries(webhook_id, state=state), limit))
    if as_json:
        for delivery in listed:
            print_json(delivery.model_dump(mode="json"))
    elif listed:
        rows = [
            (each.id, each.event_type, each.event_subject, each.state, str(each.attempts), _last_attempt(each))
            for each in listed
        ]
        print_table(("DELIVERY", "EVENT", "SUBJECT", "STATE", "ATTEMPTS", "LAST"), rows)
    else:
        print_line("No deliveries.")


@webhooks.command()
@click.argument("webhook_id", metavar="ID")
@click.argument("delivery_id", metavar="[DELIVERY]", required=False)
@click.option("--since", help="All deliveries since 15m, 2h or 7d ago, a time (RFC 3339), or a cursor.")
@server_options
def redeliver(webhook_id: str, delivery_id: str | None, since: str | None, url: str | None, as_json: bool) -> None:
    """Send one delivery again, or all since a moment.

    Events older than the endpoint are not sent.
    """
    if (delivery_id is None) == (since is None):
        raise Failure("Name a delivery, or give --since.", code="usage", exit_code=USAGE)
    with open_client(url) as client:
        count = client.webhooks.redeliver(webhook_id, delivery_id, since=parse_since(since) if since else None)
    if as_json:
        print_json({"webhook_id": webhook_id, "delivery_id": delivery_id, "since": since, "events": count})
    elif count:
        events = "1 event is" if count == 1 else f"{count} events are"
        print_line(f"{events} sent again. To see the deliveries: saccade webhooks deliveries {webhook_id}")
    else:
        print_line("Nothing is sent again: since then there was no event that this endpoint gets.")


@webhooks.command()
@click.argument("webhook_id", metavar="ID")
@server_options
def enable(webhook_id: str, url: str | None, as_json: bool) -> None:
    """Enable an endpoint that was disabled.

    Events of the meantime are sent only by `saccade webhooks redeliver`.
    """
    with open_client(url) as client:
        changed = client.webhooks.change(webhook_id, enabled=True)
    if as_json:
        print_json(changed.model_dump(mode="json", exclude={"secret"}))
    else:
        print_line(f"{changed.id} is {_state(changed)}.")


@webhooks.command()
@click.argument("webhook_id", metavar="ID")
@server_options
def delete(webhook_id: str, url: str | None, as_json: bool) -> None:
    """Delete an endpoint.

    Its pending deliveries are not sent.
    """
    with open_client(url) as client:
        client.webhooks.delete(webhook_id)
    if as_json:
        print_json({"id": webhook_id, "deleted": True})
    else:
        print_line(f"Deleted {webhook_id}.")


def _test_hint(answer: WebhookTest) -> str:
    if (answer.error or "").startswith(("smtp_", "email_")):
        return "docs/messages.md says what each failure of the mail server means."
    if answer.status is None:
        return "Check that the endpoint runs, and that its address is right."
    return "Check the log of the endpoint: it must answer 200 to 299."


def _parse_quiet(text: str) -> dict[str, str]:
    """Return the quiet hours of ``22:00-07:00@Europe/Berlin``; the server checks the clock times and the zone."""
    hours, _, zone = text.partition("@")
    start, separator, end = hours.partition("-")
    if not separator:
        raise click.BadParameter("write START-END, such as 22:00-07:00@Europe/Berlin", param_hint="--quiet")
    return {"start": start.strip(), "end": end.strip(), "time_zone": zone.strip() or "UTC"}


def _parse_header(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (equals and name):
        raise Failure("--header is not NAME=VALUE.", code="usage", exit_code=USAGE)  # the value may be a secret
    return name, value


def _overlap_s(text: str) -> float:
    seconds = parse_since(text)
    if not seconds.isdigit():
        raise Failure(f"--overlap {text}: write it like 90s, 15m, 2h or 1d.", code="usage", exit_code=USAGE)
    return float(seconds)


def _show_secret(made: WebhookView, *, as_json: bool) -> None:
    if as_json:
        print_json(made.model_dump(mode="json"))
        return
    print_line(f"{made.id}  {made.url}")
    if made.format == "email":
        print_note(f"\nTry it: saccade webhooks test {made.id}")
        return
    print_line(f"secret: {made.secret}")
    if made.signing != "v1" and made.public_keys:
        print_line(f"public key: {made.public_keys[0]['whpk']}")
    print_note("\nThe secret is shown once; store it where your receiver verifies requests.")


def _state(endpoint: WebhookView) -> str:
    reason = f" ({endpoint.disabled_reason})" if endpoint.disabled_reason else ""
    return "enabled" if endpoint.enabled else f"disabled{reason}"


def _last_attempt(delivery: DeliveryView) -> str:
    parts: list[Any] = [delivery.last_status, (delivery.last_error or "").replace("_", " ")]
    if delivery.next_attempt_at:
        parts.append(f"again at {delivery.next_attempt_at[11:19]} UTC")
    return " · ".join(str(part) for part in parts if part)
