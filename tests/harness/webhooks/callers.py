"""HTTP clients of a notifier's webhook routes: two tenants, and one with a read-only key."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from pydantic import SecretStr

from kit.auth.api_keys import AuthSettings
from services.notifier.settings import SmtpSettings, WebhookSettings
from tests.harness.servers.embedded import EmbeddedNats
from tests.harness.servers.loopback_tls import NO_CERTIFICATES
from tests.harness.streams.notifier import notifier

KEYS = {"acme": "one.secret-of-acme", "acme_reader": "two.reads-only", "rival": "three.secret-of-rival"}


def webhook_settings(**more: Any) -> WebhookSettings:
    """Return settings that allow receivers on this machine."""
    given = {"secret_key": SecretStr("k" * 32), "webhook_https_only": False, "webhook_allowed_networks": "127.0.0.0/8"}
    return WebhookSettings(**given | more)


def keys_of_two_tenants(folder: Path) -> AuthSettings:
    """Write a keys file with the three callers and return settings with it."""
    scopes = {"acme": ["read", "write"], "acme_reader": ["read"], "rival": ["read", "write"]}
    entries = [
        {
            "id": bearer.partition(".")[0],
            "sha256": hashlib.sha256(bearer.partition(".")[2].encode()).hexdigest(),
            "tenant": name.partition("_")[0],
            "scopes": scopes[name],
        }
        for name, bearer in KEYS.items()
    ]
    file = folder / "keys.json"
    file.write_text(json.dumps(entries))
    return AuthSettings(api_keys_file=file, allowed_hosts="127.0.0.1")


@dataclass
class Callers:
    """HTTP clients of one notifier: two tenants, and one with a read-only key."""

    acme: httpx.AsyncClient
    acme_reader: httpx.AsyncClient
    rival: httpx.AsyncClient


@asynccontextmanager
async def callers(
    nats: EmbeddedNats,
    auth: AuthSettings,
    settings: WebhookSettings | None = None,
    smtp: SmtpSettings | None = None,
) -> AsyncIterator[Callers]:
    """Run a notifier and open the callers' clients."""
    async with AsyncExitStack() as stack:
        reader = await stack.enter_async_context(notifier(nats.settings, auth, settings or webhook_settings(), smtp))
        made = [
            await stack.enter_async_context(
                httpx.AsyncClient(
                    base_url=reader.url, headers={"Authorization": f"Bearer {KEYS[name]}"}, verify=NO_CERTIFICATES
                )
            )
            for name in ("acme", "acme_reader", "rival")
        ]
        yield Callers(*made)


async def create(client: httpx.AsyncClient, url: str = "https://hooks.example.com/x", **more: Any) -> dict[str, Any]:
    """Create an endpoint and return the answer, which has its secret."""
    answer = await client.post("/v1/webhooks", json={"url": url, **more})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made
