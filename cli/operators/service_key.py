"""``saccade key service``: consumers of a user's own service, and NATS credentials for these and nothing else."""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from cli.failure import USAGE, Failure
from cli.operators.bus_credentials import SystemAccess, bus_access, declaring, new_secret, revoke_access
from cli.output import display_path, print_json, print_line, print_note
from contracts.asyncapi import PUBLISHERS, SUBSCRIPTIONS, event_types
from contracts.consumers import SERVICE_PATTERN, consumer_name, service_grant
from contracts.events.base import DURABLE, EventData
from contracts.ids import TENANT_PATTERN

if TYPE_CHECKING:
    from kit.settings import NatsSettings

#: Names of Saccade's own processes, whose consumers nobody else may have.
_OWN_NAMES: Final = frozenset(SUBSCRIPTIONS).union(*PUBLISHERS.values())


@click.command()
@click.argument("name")
@click.option("--revoke", is_flag=True, help="Remove NAME from the users of NATS; its consumers stay.")
@click.option("--events", help="Event types, with commas: job.succeeded,upload.completed")
@click.option("--tenant", help="Only this tenant's events. [default: those of all tenants]")
@click.option("--out", type=click.Path(path_type=Path), help="File of the credentials. [default: NAME.creds]")
@click.option("--data", type=click.Path(path_type=Path), help="Data folder of `saccade up`. [default: ./.saccade]")
@click.option("--users", type=click.Path(path_type=Path), help="NATS with passwords: file of its users to add to.")
@click.option(
    "--seed", type=click.Path(path_type=Path), help="NATS in operator mode: user_services.seed, to sign with."
)
@click.option("--days", type=click.IntRange(1, 3650), default=365, show_default=True, help="Validity, with --seed.")
@click.option("--ack-wait-s", type=click.FloatRange(1, 3600), default=10.0, show_default=True,
              help="Silence after which another process may have an event.")  # fmt: skip
@click.option("--concurrency", type=click.IntRange(1, 1000), default=4, show_default=True,
              help="Events of a type that are handled at once, in all processes.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print one JSON value per line.")
def service(
    *,
    name: str,
    revoke: bool,
    events: str | None,
    tenant: str | None,
    out: Path | None,
    data: Path | None,
    users: Path | None,
    seed: Path | None,
    days: int,
    ack_wait_s: float,
    concurrency: int,
    as_json: bool,
) -> None:
    """Make credentials for your own service NAME, and the consumers it reads; with --revoke, take them away.

    With --users or --seed, NATS is that of NATS_URL and its credentials. See docs/own-service.md.
    """
    if revoke:
        if events is not None or tenant is not None or out is not None:
            raise click.UsageError("--revoke makes no credentials: leave --events, --tenant and --out out.")
        _revoke(name, bus_access(data, users, seed, days), as_json=as_json)
        return
    if events is None:
        raise click.UsageError("Say with --events which events the service reads.")
    classes = _checked(name, events, tenant)
    consumers = {consumer_name(name, event.type): event for event in classes}
    out = out or Path(f"{name}.creds")
    with new_secret(out) as output:
        access = bus_access(data, users, seed, days)
        grant = service_grant(name, [event.type for event in classes], api=access.api)

        async def make() -> str:
            await _declare(access.settings, consumers, tenant, ack_wait_s, concurrency)
            return await access.make(grant)

        output.write(asyncio.run(make()))
    url = access.settings.address
    if as_json:
        print_json({"service": name, "credentials": str(out), "url": url, "consumers": list(consumers)})
        return
    print_line(f"NATS_URL={url} NATS_CREDENTIALS_FILE={display_path(out)} python {name.replace('-', '_')}.py")
    whose = f"tenant {tenant}" if tenant else "all tenants"
    print_note(
        f"\n{display_path(out)} may read {', '.join(consumers)} (events of {whose}) and nothing else. Keep it secret."
    )
    if access.note:
        print_note(access.note)


def _revoke(name: str, access: SystemAccess, *, as_json: bool) -> None:
    """Take a service's access away and say so.

    Raises:
        Failure: the system has no such service, or its credentials are signed.
    """
    if not re.fullmatch(SERVICE_PATTERN, name):
        raise Failure(f"{name}: a service's name matches {SERVICE_PATTERN}.", code="usage", exit_code=USAGE)
    text = f"{name} is removed from the users of NATS. Its consumers keep their position."
    revoke_access(access, name, "service", name, text, as_json=as_json)


def _checked(name: str, events: str, tenant: str | None) -> list[type[EventData]]:
    """Return the classes of the events.

    Raises:
        Failure: the name, an event or the tenant is not one.
    """
    if not re.fullmatch(SERVICE_PATTERN, name):
        raise Failure(f"{name}: a service's name matches {SERVICE_PATTERN}.", code="usage", exit_code=USAGE)
    if name in _OWN_NAMES:
        raise Failure(f"{name} is a service of Saccade's own: choose another name.", code="usage", exit_code=USAGE)
    if tenant is not None and not re.match(TENANT_PATTERN, tenant):
        raise Failure(f"--tenant {tenant}: use lower-case letters, digits, - and _.", code="usage", exit_code=USAGE)
    durable = {kind: event for kind, event in event_types().items() if event.kind == DURABLE}
    wanted = list(dict.fromkeys(part.strip() for part in events.split(",") if part.strip()))
    for kind in wanted:
        if kind not in durable:
            raise Failure(
                f"--events {kind}: there is no such durable event.",
                code="usage",
                hint=f"The events: {', '.join(durable)}",
                exit_code=USAGE,
            )
    if not wanted:
        raise Failure("--events names no event.", code="usage", exit_code=USAGE)
    return [durable[kind] for kind in wanted]


async def _declare(
    settings: NatsSettings,
    consumers: dict[str, type[EventData]],
    tenant: str | None,
    ack_wait_s: float,
    concurrency: int,
) -> None:
    """Create the service's consumers, or bring them up to date.

    Raises:
        Failure: NATS does not answer, or a consumer has another tenant's events.
    """
    from nats.js.errors import NotFoundError  # noqa: PLC0415
    from saccade_events.consumer import consumer_config, declare_consumer  # noqa: PLC0415
    from saccade_events.retry_policy import RetryPolicy  # noqa: PLC0415

    from contracts.asyncapi import address_of, stream_of  # noqa: PLC0415

    async with declaring(settings) as client:
        jetstream = client.jetstream()
        retry = RetryPolicy(ack_wait_s=ack_wait_s)
        for consumer, event in consumers.items():
            address, stream = address_of(event).replace("{tenant}", tenant or "{tenant}"), stream_of(event).name
            wanted = consumer_config(consumer, address, retry, concurrency)
            with suppress(NotFoundError):
                known = (await jetstream.consumer_info(stream, consumer)).config.filter_subject
                if known != wanted.filter_subject:
                    raise Failure(
                        f"The consumer {consumer} exists and reads {known}.",
                        code="consumer_exists",
                        hint="Choose another name: a service has the events of one tenant or of all.",
                    )
            await declare_consumer(jetstream, stream, wanted)
