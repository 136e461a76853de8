"""NATS: reachable, credentials, JetStream, limits, streams, cluster, clock, and whether it can still write."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlsplit

import nats.errors
from nats.aio.client import Client

from cli.doctor.clock import judge_clock, read_rfc3339
from cli.doctor.report_line import ReportLine, fail, ok, warn
from cli.doctor.streams import judge_limits, judge_quorum, judge_streams
from cli.doctor.system import System
from cli.embedded.nats_system import nats_write_error
from cli.failure import Failure
from cli.nats_connection import ConnectionHints, connected
from contracts.errors import SaccadeError
from contracts.limits import MESSAGE_BYTES
from contracts.streams import STREAMS
from kit.bus.jetstream_api import StreamMissing, error_code, request, stream_info
from kit.bus.leader_reads import is_clustered
from kit.settings import NatsSettings

_OLDEST: Final = (2, 12)
#: Codes of JetStream's API: not enabled at all, or not for this account.
_NO_JETSTREAM: Final = frozenset({10039, 10076})
#: JetStream is on, and the cluster has no leader.
_NO_LEADER: Final = 10008
_PORT: Final = 4222
_DIAL_S: Final = 3.0
_ASK_S: Final = 3.0
#: What each kind of system does where NATS does not answer.
_SILENT: Final = {
    "embedded": "Stop Saccade with Ctrl-C and start it again with: saccade up.",
    "compose": "Start it with: docker-compose -f docker-compose.yml -f deploy/compose.operators.yml up -d nats.",
    "servers": "Start nats-server, or correct NATS_URL.",
}
_REFUSED: Final = {
    "embedded": "Stop Saccade and start it again: it writes the users of NATS at every start.",
    "compose": "Use the NATS_USER and NATS_PASSWORD with which the container nats was started, or start it again.",
    "servers": "Correct NATS_USER and NATS_PASSWORD, or NATS_CREDENTIALS_FILE: those of the services.",
}
_FORBIDDEN: Final = "Use the credentials of the services: those of operators may not read the streams."
_JETSTREAM: Final = "Add a block `jetstream {}` to the configuration of nats-server, and allow it for the account."


async def check_bus(system: System) -> list[ReportLine]:
    """Look at NATS as a service does."""
    if fault := system.faults.get("bus"):
        return [fail("bus", fault, "Correct that variable.")]
    if system.nats is None:
        return [warn("bus", f"nothing runs on {system.folder}", "Start it with: saccade up.")]
    hints = ConnectionHints(silent=_SILENT[system.kind], refused=_REFUSED[system.kind], forbidden=_FORBIDDEN)
    try:
        async with connected(system.nats, hints) as client:
            return await _look(client, system, system.nats)
    except Failure as failure:
        if failure.code == "forbidden":
            return [fail("bus rights", failure.message, failure.hint)]
        is_silent = failure.hint == hints.silent
        if is_silent and system.kind == "compose":
            return [_unpublished(system)]
        return [fail("bus" if is_silent else "bus credentials", _named(system.nats, failure.message), failure.hint)]


def _named(settings: NatsSettings, message: str) -> str:
    return message if settings.address in message else f"{settings.address} says: {message}"


def _unpublished(system: System) -> ReportLine:
    """Compose publishes no port of NATS: the gateway's health says whether it works."""
    assert system.nats
    says = f"its port is not published, so only the gateway's health tells of it ({system.nats.address} is silent)"
    return ok("bus", says)


async def _look(client: Client, system: System, settings: NatsSettings) -> list[ReportLine]:
    found = [_judge_version(client, settings)]
    account = await _account(client)
    if account is None:
        return [*found, fail("bus jetstream", f"it is off at {settings.address}", _JETSTREAM)]
    if "error" in account:
        found.append(_judge_error(account))
        return found + await _judge_addresses(settings)
    sent = datetime.now(UTC)
    infos = dict(zip((stream.name for stream in STREAMS), await _streams(client), strict=True))
    received = datetime.now(UTC)
    found.append(ok("bus jetstream", f"on; {account.get('streams', 0)} streams of the account"))
    found += judge_limits(account, client.max_payload, MESSAGE_BYTES, settings.replicas)
    found += judge_streams(infos, settings.replicas)
    found += _judge_clocks(infos, sent, received)
    if is_clustered(client):
        named = client._server_info.get("connect_urls") or ()  # noqa: SLF001 - nats-py has no public name for it
        nodes = _nodes(infos) or len(set(named)) or 1
        found += judge_quorum(infos, nodes)
    found += await _judge_addresses(settings)
    if system.system_password:
        found += await _judge_writes(settings, system.system_password)
    return found


def _judge_error(account: dict[str, Any]) -> ReportLine:
    reason = str(account["error"].get("description", "refused"))
    if error_code(account) == _NO_LEADER:
        fix = "Start the other nodes: more than half of them have to run."
        return fail("bus cluster", f"no node leads it ({reason})", fix)
    return fail("bus jetstream", reason, _JETSTREAM)


def _judge_version(client: Client, settings: NatsSettings) -> ReportLine:
    version = client.connected_server_version
    says = f"nats-server {version.major}.{version.minor}.{version.patch} at {settings.address}"
    if (version.major, version.minor) < _OLDEST:
        return fail("bus", says, "Upgrade to nats-server 2.15, the version of the tests: 2.12 is the oldest one.")
    return ok("bus", f"{says}, these credentials are accepted")


async def _account(client: Client) -> dict[str, Any] | None:
    """Return what JetStream says of the account; None where it is off.

    Raises:
        SaccadeError: BUS_UNAVAILABLE.
    """
    try:
        answer = await request(client, "INFO", {}, _ASK_S)
    except SaccadeError as error:
        if isinstance(error.__cause__, nats.errors.NoRespondersError):
            return None
        if is_clustered(client):  # while a leader is elected, nobody answers
            return {"error": {"err_code": _NO_LEADER, "description": f"no answer within {_ASK_S:g} s"}}
        raise
    return None if error_code(answer) in _NO_JETSTREAM else answer


async def _streams(client: Client) -> list[dict[str, Any] | None]:
    async def info(name: str) -> dict[str, Any] | None:
        try:
            return await stream_info(client, name, _ASK_S)
        except StreamMissing:
            return None
        except SaccadeError as error:
            if not is_clustered(client):
                raise
            # Without a leader nobody answers: what is known is that it exists.
            return _silent(name, error)

    return await asyncio.gather(*(info(stream.name) for stream in STREAMS))


def _silent(name: str, error: SaccadeError) -> dict[str, Any]:
    return {"config": {"sealed": True, "name": name}, "state": {"bytes": 0}, "cluster": {}, "silent": error.message}


def _judge_clocks(infos: Mapping[str, Any], sent: datetime, received: datetime) -> list[ReportLine]:
    for info in infos.values():
        with contextlib.suppress(ValueError, TypeError, KeyError):
            return [judge_clock("bus clock", read_rfc3339(info["ts"]), sent, received, 0.001)]
    return []


def _nodes(infos: Mapping[str, Any]) -> int:
    names = set()
    for info in infos.values():
        group = (info or {}).get("cluster") or {}
        names |= {group.get("leader"), *(peer.get("name") for peer in group.get("replicas", ()))}
    return len(names - {None, ""})


async def _judge_addresses(settings: NatsSettings) -> list[ReportLine]:
    """Dial each of several addresses: a client uses one that answers, and nobody notices that another one does not."""
    if len(settings.urls) < 2:
        return []
    dialled = await asyncio.gather(*(_answers(url) for url in settings.urls))
    silent = [
        urlsplit(url).netloc.rpartition("@")[2]
        for url, answers in zip(settings.urls, dialled, strict=True)
        if not answers
    ]
    if silent:
        fix = "Start these nodes, or correct NATS_URL: it names the nodes that clients turn to when one fails."
        return [warn("bus addresses", f"no answer at {', '.join(silent)}", fix)]
    return [ok("bus addresses", f"all {len(dialled)} of NATS_URL answer")]


async def _answers(url: str) -> bool:
    parts = urlsplit(url if "://" in url else f"nats://{url}")
    try:
        async with asyncio.timeout(_DIAL_S):
            _, writer = await asyncio.open_connection(parts.hostname, parts.port or _PORT)
    except (OSError, TimeoutError, ValueError):
        return False
    writer.close()
    return True


async def _judge_writes(settings: NatsSettings, password: str) -> list[ReportLine]:
    parts = urlsplit(settings.url)
    assert parts.hostname
    assert parts.port
    if error := await nats_write_error(parts.hostname, parts.port, "system", password):
        fix = "Free some space, and restart Saccade: NATS accepts nothing for that stream before."
        return [fail("bus writes", error, fix)]
    return [ok("bus writes", "no stream had an error on the disk")]
