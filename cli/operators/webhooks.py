"""``saccade webhooks``: where events are sent to, and what became of them."""

from __future__ import annotations

import itertools
from typing import Any

import click
from saccade import DeliveryView, WebhookView

from cli.connection import open_client, server_options
from cli.failure import USAGE, Failure
from cli.jobs.events import parse_since
from cli.output import print_json, print_line, print_note, print_table


@click.group()
def webhooks() -> None:
    """Have events sent to a server of yours, signed; docs/webhooks.md says how to receive them."""


@webhooks.command("list")
@server_options
def list_all(url: str | None, as_json: bool) -> None:
    """List your endpoints."""
    with open_client(url) as client:
        found = client.webhooks.all()
    if as_json:
        for one in found:
            print_json(one.model_dump(mode="json", exclude={"secret"}))
    elif found:
        rows = [(one.id, _state(one), " ".join(one.types) or "all", one.url, one.description) for one in found]
        print_table(("ENDPOINT", "STATE", "EVENTS", "URL", "WHAT"), rows)
    else:
        print_line("No webhooks.")


@webhooks.command()
@click.argument("endpoint_url", metavar="ENDPOINT")
@click.option("--type", "types", multiple=True, help="Only this type, job.failed or job.*; may be repeated.")
@click.option("--description", default="", help="What it is for.")
@click.option("--header", "headers", multiple=True, metavar="NAME=VALUE", help="Send this header along.")
@click.option("--rate", "rate_per_s", type=click.FloatRange(0.01, 1000), help="At most so many requests a second.")
@click.option("--ordered", is_flag=True, help="Strictly one event of a job after the other.")
@click.option("--signing", type=click.Choice(["v1", "v1a", "both"]), default="v1", show_default=True)
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
    url: str | None,
    as_json: bool,
) -> None:
    """Send events to the URL ENDPOINT from now on. The secret that signs them is shown once."""
    with open_client(url) as client:
        made = client.webhooks.create(
            endpoint_url,
            types=types,
            description=description,
            headers=dict(_header(one) for one in headers),
            rate_per_s=rate_per_s,
            ordered=ordered,
            signing=signing,
        )
    _show_secret(made, as_json=as_json)


@webhooks.command("rotate-secret")
@click.argument("webhook_id", metavar="ID")
@click.option("--overlap", default="1d", show_default=True, help="How long the old secret signs too: 0s to 7d.")
@server_options
def rotate_secret(webhook_id: str, overlap: str, url: str | None, as_json: bool) -> None:
    """Give an endpoint a new secret; what is sent is signed with the old one too for a while."""
    seconds = _overlap_s(overlap)
    with open_client(url) as client:
        made = client.webhooks.rotate_secret(webhook_id, overlap_s=seconds)
    _show_secret(made, as_json=as_json)


@webhooks.command("default-secret")
@click.option("--rotate", is_flag=True, help="Make a new one.")
@click.option("--overlap", default="1d", show_default=True, help="How long the old secret signs too: 0s to 7d.")
@server_options
def default_secret(*, rotate: bool, overlap: str, url: str | None, as_json: bool) -> None:
    """Show what the webhooks of jobs' own webhook_url are signed with, or make it anew."""
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
    """Send an example to an endpoint, and say what it answered."""
    with open_client(url) as client:
        answer = client.webhooks.test(webhook_id)
    if as_json:
        print_json(answer.model_dump(mode="json"))
    elif answer.delivered:
        print_line(f"It answered {answer.status} after {answer.latency_ms:.0f} ms.")
    if not answer.delivered:
        got = f"it answered {answer.status}" if answer.status else (answer.error or "no answer").replace("_", " ")
        message = f"The example was not taken: {got} after {answer.latency_ms:.0f} ms."
        excerpt = answer.response_excerpt.strip()
        raise Failure(message, code=answer.error or "not_delivered", hint=excerpt[:200] or "See that it runs.")


@webhooks.command()
@click.argument("webhook_id", metavar="ID")
@click.option("--state", type=click.Choice(["pending", "delivered", "failed", "cancelled"]), help="Only these.")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="How many, newest first.")
@server_options
def deliveries(webhook_id: str, state: str | None, limit: int, url: str | None, as_json: bool) -> None:
    """List what was sent to an endpoint, or waits; ID may be a job's, for its own webhook_url."""
    with open_client(url) as client:
        listed = list(itertools.islice(client.webhooks.deliveries(webhook_id, state=state), limit))
    if as_json:
        for one in listed:
            print_json(one.model_dump(mode="json"))
    elif listed:
        rows = [(one.id, one.event_type, one.event_subject, one.state, str(one.attempts), _last(one)) for one in listed]
        print_table(("DELIVERY", "EVENT", "OF", "STATE", "TRIED", "LAST"), rows)
    else:
        print_line("No deliveries.")


@webhooks.command()
@click.argument("webhook_id", metavar="ID")
@click.argument("delivery_id", metavar="[DELIVERY]", required=False)
@click.option("--since", help="All since 15m, 2h or 7d ago, a time (RFC 3339), or a cursor.")
@server_options
def redeliver(webhook_id: str, delivery_id: str | None, since: str | None, url: str | None, as_json: bool) -> None:
    """Send one delivery to an endpoint once more, or all since a moment."""
    if (delivery_id is None) == (since is None):
        raise Failure("Name a delivery, or give --since.", code="usage", exit_code=USAGE)
    with open_client(url) as client:
        client.webhooks.redeliver(webhook_id, delivery_id, since=parse_since(since) if since else None)
    if as_json:
        print_json({"webhook_id": webhook_id, "delivery_id": delivery_id, "since": since})
    else:
        print_line(f"It will be sent; see: saccade webhooks deliveries {webhook_id}")


@webhooks.command()
@click.argument("webhook_id", metavar="ID")
@server_options
def delete(webhook_id: str, url: str | None, as_json: bool) -> None:
    """Delete an endpoint; what still waits for it is not sent."""
    with open_client(url) as client:
        client.webhooks.delete(webhook_id)
    if as_json:
        print_json({"id": webhook_id, "deleted": True})
    else:
        print_line(f"{webhook_id} is deleted.")


def _header(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (equals and name):
        raise Failure("--header is not NAME=VALUE.", code="usage", exit_code=USAGE)  # its value may be a secret
    return name, value


def _overlap_s(text: str) -> float:
    seconds = parse_since(text)
    if not seconds.isdigit():
        raise Failure(f"--overlap {text} is not like 90s, 15m, 2h or 1d.", code="usage", exit_code=USAGE)
    return float(seconds)


def _show_secret(made: WebhookView, *, as_json: bool) -> None:
    if as_json:
        print_json(made.model_dump(mode="json"))
        return
    print_line(f"{made.id}  {made.url}")
    print_line(f"secret: {made.secret}")
    print_note("\nThe secret is shown once; keep it where your receiver verifies what comes.")


def _state(endpoint: WebhookView) -> str:
    reason = f" ({endpoint.disabled_reason})" if endpoint.disabled_reason else ""
    return "enabled" if endpoint.enabled else f"disabled{reason}"


def _last(delivery: DeliveryView) -> str:
    parts: list[Any] = [delivery.last_status, (delivery.last_error or "").replace("_", " ")]
    if delivery.next_attempt_at:
        parts.append(f"again at {delivery.next_attempt_at[11:19]} UTC")
    return " · ".join(str(part) for part in parts if part)
