"""The services: do they answer, are they well, are they of one version, and is the public address theirs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp

from cli.doctor.report_line import ReportLine, fail, ok, warn
from cli.doctor.system import System
from kit.source_version import source_version

_ASK_S: Final = 6.0
_KEY: Final = "SACCADE_API_KEY"
_ANSWER_BYTES: Final = 64 * 1024
#: What each kind of system does where the services do not answer.
_START: Final = {
    "embedded": "Start it with: saccade up.",
    "compose": "Start it with: docker-compose up -d, and read `docker-compose logs gateway`.",
    "servers": "Start the services, or name the server's address with --url or SACCADE_URL.",
}


@dataclass(frozen=True)
class Asked:
    """Answer of an address, or the reason why there is none."""

    #: Whether something listens there.
    connected: bool = False
    status: int = 0
    body: Mapping[str, Any] = field(default_factory=dict)
    #: Why there is no answer.
    reason: str = ""

    @property
    def service(self) -> str:
        """Name of the service, if one of ours reports its health."""
        return str(self.body.get("service", "")) if "checks" in self.body else ""

    @property
    def version(self) -> str | None:
        """Its version; None of an older one, which says none."""
        return self.body.get("version")

    @property
    def code(self) -> str:
        """Code of the error that it answered."""
        return str(self.body.get("code", ""))

    @property
    def failed(self) -> dict[str, str]:
        """Checks of its own that failed, with what it says of them."""
        checks = self.body.get("checks", {})
        return {name: str(check.get("detail")) for name, check in checks.items() if check.get("status") == "failed"}


async def ask(url: str, key: str = "") -> Asked:
    """GET a URL; nothing is raised and no redirect followed."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        async with (
            asyncio.timeout(_ASK_S),
            aiohttp.ClientSession(headers=headers) as session,
            session.get(url, allow_redirects=False) as answer,
        ):
            raw = await answer.content.read(_ANSWER_BYTES)
            while more := await answer.content.read(_ANSWER_BYTES):
                raw = (raw + more)[:_ANSWER_BYTES]
            try:
                body = json.loads(raw)
            except ValueError:
                body = {}
            return Asked(connected=True, status=answer.status, body=body if isinstance(body, dict) else {})
    except aiohttp.ClientConnectorCertificateError:
        return Asked(reason="its certificate is not accepted")
    except aiohttp.ClientConnectorDNSError:
        return Asked(reason="its name does not resolve")
    except aiohttp.ClientConnectionError as error:
        # Something listens that speaks no HTTP, or ends connections.
        return Asked(connected=not isinstance(error, aiohttp.ClientConnectorError), reason="no connection")
    except TimeoutError:
        return Asked(reason=f"no answer within {_ASK_S:g} s")
    except (aiohttp.ClientError, ValueError) as error:
        return Asked(connected=True, reason=type(error).__name__)


async def check_services(system: System) -> list[ReportLine]:
    """Look at the services' health, versions and addresses."""
    if not system.running and not system.url_is_named:
        return [warn("services", f"nothing runs on {system.folder}", _START["embedded"])]
    names = list(system.services)
    addresses = [system.url, *system.services.values()]
    (origin, *answers), public = await asyncio.gather(
        asyncio.gather(*(ask(f"{address}/health") for address in addresses)), _judge_public(system)
    )
    found = [_judge_origin(system, origin)]
    reports = {name: answer for name, answer in zip(names, answers, strict=True) if answer.service == name}
    if origin.service:
        reports.setdefault(origin.service, origin)
    missing = [name for name in names if name not in reports] if system.kind == "embedded" else []
    found += [fail("services", f"the {name} does not answer", _log_hint(system, name)) for name in missing]
    found += [_judge_health(name, report) for name, report in reports.items()]
    if reports:
        found += judge_versions({name: report.version for name, report in reports.items()}, source_version())
    if origin.service:
        found += await _judge_key(system)
    return [*found, *public]


def _judge_origin(system: System, origin: Asked) -> ReportLine:
    if origin.service:
        return ok("server", f"{system.url} answers")
    if origin.code == "host_not_allowed":
        return fail("server", f"{system.url} serves no such host", _allow(system.url))
    if origin.connected:
        says = f"{system.url} is not Saccade: GET /health is answered with {origin.status or origin.reason}"
        return fail("server", says, "Correct --url or SACCADE_URL, or the reverse proxy in front of the gateway.")
    judge = fail if system.url_is_named or system.kind != "servers" else warn
    return judge("server", f"no answer at {system.url} ({origin.reason})", _START[system.kind])


def _allow(url: str) -> str:
    return f"Add {urlsplit(url).hostname} to SACCADE_ALLOWED_HOSTS of gateway and notifier."


def _log_hint(system: System, name: str) -> str:
    return f"Read {system.folder / 'logs' / f'{name}.log'}, then stop Saccade and start it again."


def _judge_health(name: str, report: Asked) -> ReportLine:
    if not report.failed:
        return ok(name, "well")
    says = "; ".join(f"{check}: {detail}" for check, detail in report.failed.items())
    return fail(name, f"degraded, {says}", f"Look at the lines about {', '.join(report.failed)}, and at its log.")


def judge_versions(versions: Mapping[str, str | None], own: str) -> list[ReportLine]:
    """Return whether the services are of one version, and of that of this command. Pure."""
    said = {version or "older" for version in versions.values()}
    listed = ", ".join(f"{name} {version or 'older'}" for name, version in versions.items())
    if len(said) > 1:
        return [fail("versions", f"the services differ: {listed}", "Deploy all services from the same commit.")]
    if said != {own}:
        fix = "Use the `saccade` of the commit that the server was made of, or deploy this one."
        return [warn("versions", f"this command is {own}, and the server: {listed}", fix)]
    return [ok("versions", f"{', '.join(versions)} and this command are of one version ({own})")]


async def _judge_key(system: System) -> list[ReportLine]:
    """Return whether the API key is accepted, or none is needed."""
    key = system.variables.get(_KEY, "")
    answer = await ask(f"{system.url}/v1/jobs?limit=1", key)
    if answer.status == 200:
        return [ok("api key", "it is accepted" if key else "the server needs none")]
    if answer.status == 403:
        return [ok("api key", "it is accepted; it may not read jobs")]
    if answer.status == 401 and key:
        fix = f"Set {_KEY} to a key of the server's keys file: `saccade key --file FILE` adds one."
        return [fail("api key", f"the server does not accept {_KEY}", fix)]
    if answer.status == 401:
        fix = f"Set {_KEY} to your key, so that what needs it can be looked at."
        return [warn("api key", "the server needs one, and none is set here", fix)]
    says = f"GET /v1/jobs is answered with {answer.status or answer.reason} {answer.code}".strip()
    return [warn("api key", says, "Try again in a minute: a service that starts answers 503.")]


async def _judge_public(system: System) -> list[ReportLine]:
    """Return whether the public addresses are those of the gateway."""
    named = dict([system.public_url])
    if system.runs_on_modal and system.variables.get("DISPATCHER_WORKER_BUS", "ingest") == "ingest":
        named["DISPATCHER_WORKER_BUS_URL"] = system.variables.get("DISPATCHER_WORKER_BUS_URL", "")
    asked = [(name, url.rstrip("/")) for name, url in named.items() if url]
    answers: Sequence[Asked] = await asyncio.gather(*(ask(f"{url}/health") for _, url in asked))
    return [judge_public(*each, answer) for each, answer in zip(asked, answers, strict=True)]


def judge_public(name: str, url: str, answer: Asked) -> ReportLine:
    """Return whether an address that was named leads to the gateway. Pure."""
    check = "public address"
    if answer.service == "gateway":
        return ok(check, f"{url} is the gateway")
    if answer.code == "host_not_allowed":
        return fail(check, f"{url} reaches a gateway that serves no such host", _allow(url))
    if not answer.connected:
        return fail(
            check, f"{url} of {name} does not answer ({answer.reason})", f"Start the tunnel, or correct {name}."
        )
    says = f"{url} of {name} is not the gateway: GET /health is answered with {answer.status or answer.reason}"
    return fail(check, says, f"Correct {name}, or where the reverse proxy passes /health on to.")
