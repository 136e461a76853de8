"""``saccade key sandbox``: NATS credentials of who reads a sandbox, and the consumer that delivers to it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from cli.failure import USAGE, Failure
from cli.operators.bus_credentials import bus_access, declaring, new_secret, revoke_access
from cli.output import display_path, print_json, print_line, print_note
from contracts.sandbox import copies_in, delivery_subject, reader_consumer, reader_grant
from contracts.streams import REPLAYS

if TYPE_CHECKING:
    from kit.settings import NatsSettings

_HEARTBEAT_S: Final = 5.0


@click.command()
@click.argument("name")
@click.option("--revoke", is_flag=True, help="Remove the reader of NAME from the users of NATS.")
@click.option("--out", type=click.Path(path_type=Path), help="File of the credentials. [default: NAME.creds]")
@click.option("--data", type=click.Path(path_type=Path), help="Data folder of `saccade up`. [default: ./.saccade]")
@click.option("--users", type=click.Path(path_type=Path), help="NATS with passwords: file of its users to add to.")
@click.option("--seed", type=click.Path(path_type=Path), help="NATS in operator mode: sandboxes.seed, to sign with.")
@click.option("--days", type=click.IntRange(1, 3650), default=30, show_default=True, help="Validity, with --seed.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON value per line.")
def sandbox(
    *,
    name: str,
    revoke: bool,
    out: Path | None,
    data: Path | None,
    users: Path | None,
    seed: Path | None,
    days: int,
    as_json: bool,
) -> None:
    """Make credentials that receive what is replayed into the sandbox NAME, and nothing else; --revoke takes them away.

    With --users or --seed, NATS is that of NATS_URL and its credentials. See docs/replays.md.
    """
    try:
        grant, subject = reader_grant(name), delivery_subject(name)
    except ValueError as error:
        raise Failure(f"{name}: {error}.", code="usage", exit_code=USAGE) from None
    if revoke:
        if out is not None:
            raise click.UsageError("--revoke makes no credentials: leave --out out.")
        text = f"The reader of {name} is removed from the users of NATS."
        revoke_access(bus_access(data, users, seed, days), grant.name, "sandbox", name, text, as_json=as_json)
        return
    out = out or Path(f"{name}.creds")
    with new_secret(out) as output:
        access = bus_access(data, users, seed, days)

        async def make() -> str:
            await _declare(access.settings, name)
            return await access.make(grant)

        output.write(asyncio.run(make()))
    url = access.settings.address
    if as_json:
        print_json({"sandbox": name, "credentials": str(out), "url": url, "subject": subject})
        return
    print_line(f"NATS_URL={url} NATS_CREDENTIALS_FILE={display_path(out)}")
    print_note(f"\n{display_path(out)} may subscribe to {subject} and do nothing else. Keep it secret.")
    if access.note:
        print_note(access.note)


async def _declare(settings: NatsSettings, name: str) -> None:
    """Create the consumer that delivers a sandbox's copies, if it is missing.

    Raises:
        Failure: NATS does not answer, or refuses it.
    """
    from nats.js.api import AckPolicy, ConsumerConfig  # noqa: PLC0415
    from nats.js.errors import NotFoundError  # noqa: PLC0415

    # The reader acknowledges nothing and asks for nothing: an answer could go to any subject (contracts/sandbox.py).
    config = ConsumerConfig(
        durable_name=reader_consumer(name),
        deliver_subject=delivery_subject(name),
        filter_subject=copies_in(name),
        ack_policy=AckPolicy.NONE,
        flow_control=True,
        idle_heartbeat=_HEARTBEAT_S,
    )
    async with declaring(settings) as client:
        jetstream = client.jetstream()
        with suppress(NotFoundError):
            await jetstream.consumer_info(REPLAYS.name, reader_consumer(name))
            return
        await jetstream.add_consumer(REPLAYS.name, config)
