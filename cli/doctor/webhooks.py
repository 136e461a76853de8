"""Endpoints of webhooks: does each name resolve, may it be sent to, does it answer. No event is sent."""

from __future__ import annotations

import asyncio
from typing import Final

import aiohttp
from saccade_client import AsyncClient, ClientError, WebhookView

from cli.doctor.report_line import ReportLine, fail, ok, warn
from cli.doctor.system import System
from contracts.errors import SaccadeError
from kit.auth.api_keys import AuthSettings
from kit.network.address_guard import AddressGuard, AddressRefusedError
from kit.network.guarded_session import guarded_session
from kit.network.name_lookup import Lookup, SystemLookup
from kit.network.urls import CheckedUrl
from kit.settings import WebhookAddressSettings
from services.notifier.webhooks.endpoints.url_check import check_url

_ANSWER_S: Final = 6.0
_AT_ONCE: Final = 8
#: Endpoints that are looked at.
_MAX: Final = 50
_NETWORKS: Final = "or add its network to NOTIFIER_WEBHOOK_ALLOWED_NETWORKS of the notifier"


async def check_webhooks(system: System) -> list[ReportLine]:
    """Look at the endpoints of the tenant of SACCADE_API_KEY; without keys, of this machine's user."""
    if not system.running and not system.url_is_named:
        return [ok("webhooks", "not looked at: nothing runs")]
    try:
        async with AsyncClient(system.url, system.variables.get("SACCADE_API_KEY") or None) as client:
            found = await client.webhooks.all()
    except ClientError as error:
        if error.code == "server_unreachable":
            return [ok("webhooks", "not looked at: the server does not answer")]
        fix = "Set SACCADE_API_KEY to a key with the scope read: the endpoints of its tenant are looked at."
        return [warn("webhooks", f"not looked at: {error.message}", fix)]
    if not found:
        return [ok("webhooks", "this tenant has no endpoints")]
    auth, addresses = AuthSettings(), WebhookAddressSettings()
    guard = AddressGuard.allowing(addresses.allowed_networks(auth))
    slots = asyncio.Semaphore(_AT_ONCE)

    async def judge(endpoint: WebhookView) -> ReportLine:
        async with slots:
            return await judge_endpoint(endpoint, guard, https_only=addresses.https_only(auth))

    judged = await asyncio.gather(*(judge(endpoint) for endpoint in found[:_MAX]))
    more = [ok("webhooks", f"{len(found) - _MAX} further endpoints were not looked at")] if len(found) > _MAX else []
    return [*judged, *more]


async def judge_endpoint(
    endpoint: WebhookView, guard: AddressGuard, *, https_only: bool, lookup: Lookup | None = None
) -> ReportLine:
    """Return whether an endpoint can be sent to: HEAD is asked, and any answer will do."""
    check = f"webhook {endpoint.id}"
    if not endpoint.enabled:
        fix = f"Enable it with: saccade webhooks enable {endpoint.id}, when the receiver is back."
        return warn(check, "it is disabled and gets nothing", fix)
    if endpoint.url.startswith("mailto:"):
        return ok(check, "an e-mail address, which is not asked")
    try:
        checked = check_url(endpoint.url, https_only=https_only, guard=guard)
    except SaccadeError as error:
        return fail(check, error.message, f"Change its URL to a public https one, {_NETWORKS}.")
    return await _judge_answer(check, checked, guard, lookup or SystemLookup())


async def _judge_answer(check: str, url: CheckedUrl, guard: AddressGuard, lookup: Lookup) -> ReportLine:
    host = url.host
    session = guarded_session(guard, lookup, tls=True, connector={"use_dns_cache": False, "force_close": True})
    try:
        async with (
            asyncio.timeout(_ANSWER_S),
            session,
            session.head(url.as_written, allow_redirects=False) as answer,
        ):
            return ok(check, f"{host} answers (HEAD: {answer.status})")
    except TimeoutError:
        return fail(check, f"{host} does not answer within {_ANSWER_S:g} s", "Start the receiver, or change the URL.")
    except aiohttp.ClientConnectorCertificateError:
        fix = "Give the receiver a certificate for this name of an authority that is generally trusted."
        return fail(check, f"the certificate of {host} is not accepted", fix)
    except (aiohttp.ClientError, OSError) as error:
        return _judge_error(check, host, error)


def _judge_error(check: str, host: str, error: BaseException) -> ReportLine:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, AddressRefusedError):
            return fail(check, str(cause), f"Change its URL to a public address, {_NETWORKS}.")
        cause = getattr(cause, "os_error", None) or cause.__cause__
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return fail(check, f"{host} does not resolve", "Correct the URL, or the name's entry in the DNS.")
    return fail(check, f"{host} does not answer ({type(error).__name__})", "Start the receiver, or change the URL.")
