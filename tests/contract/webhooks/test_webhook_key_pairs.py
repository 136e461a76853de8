"""Key pairs of v1a signatures, over a real notifier: one for each endpoint, rotated with its secret."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from saccade_client.webhook import SignatureMismatchError, verify

from kit.auth.api_keys import AuthSettings
from services.notifier.webhooks.endpoints.endpoint import EndpointSecret
from services.notifier.webhooks.signing import new_secret
from tests.harness.servers.embedded import EmbeddedNats
from tests.harness.webhooks.callers import callers, create, keys_of_two_tenants
from tests.harness.webhooks.delivery import edit_endpoints
from tests.harness.webhooks.listeners import ReceivedRequest, WebhookListener, listening

pytestmark = pytest.mark.anyio


@pytest.fixture
def auth(tmp_path: Path) -> AuthSettings:
    return keys_of_two_tenants(tmp_path)


async def example_to(client: httpx.AsyncClient, made: dict[str, Any], listener: WebhookListener) -> ReceivedRequest:
    """Send an example to an endpoint and return what it got."""
    answer = (await client.post(f"/v1/webhooks/{made['id']}/test")).json()
    assert answer["delivered"], answer
    return listener.got[-1]


def accepted(got: ReceivedRequest, key_set: dict[str, Any] | str) -> bool:
    """Return whether a receiver with these public keys accepts a webhook."""
    try:
        verify(got.body, got.headers, public_keys=key_set)
    except SignatureMismatchError:
        return False
    return True


async def test_no_receiver_accepts_what_was_signed_for_another(nats_server: EmbeddedNats, auth: AuthSettings):
    async with (
        callers(nats_server, auth) as who,
        listening() as listener,
        httpx.AsyncClient(base_url=who.acme.base_url) as anonymous,
    ):
        owners = [who.acme, who.acme, who.rival]
        made = [await create(owner, listener.url, signing="v1a") for owner in owners]
        got = [await example_to(owner, one, listener) for owner, one in zip(owners, made, strict=True)]
        key_sets = [(await anonymous.get(f"/v1/webhooks/{one['id']}/keys")).json() for one in made]
        for index, received in enumerate(got):
            assert [accepted(received, key_set) for key_set in key_sets] == [one == index for one in range(3)]
        assert [(key["kty"], key["crv"], key["shared"]) for key in key_sets[0]["keys"]] == [("OKP", "Ed25519", False)]
        assert (await who.acme.get(f"/v1/webhooks/{made[0]['id']}")).json()["public_keys"] == key_sets[0]["keys"]
        assert (await anonymous.get("/v1/webhooks/keys")).json() == {"keys": []}
        await who.acme.delete(f"/v1/webhooks/{made[0]['id']}")
        for path in (made[0]["id"], "whk_0198c0de-0000-7000-8000-000000000003", "default"):
            answer = await anonymous.get(f"/v1/webhooks/{path}/keys")
            assert (answer.status_code, answer.json()["code"]) == (404, "webhook_not_found")


async def test_a_key_pair_is_rotated_with_its_secret(nats_server: EmbeddedNats, auth: AuthSettings):
    async with callers(nats_server, auth) as who, listening() as listener:
        first = await create(who.acme, listener.url, signing="both")
        path = f"/v1/webhooks/{first['id']}"
        second = (await who.acme.post(f"{path}/rotate-secret", json={"overlap_s": 60})).json()
        new, old = second["public_keys"]
        assert (new["expires_at"], [old["expires_at"]]) == (None, second["previous_secrets_expire_at"])
        assert old["whpk"] == first["public_keys"][0]["whpk"] != new["whpk"]
        got = await example_to(who.acme, first, listener)
        assert [accepted(got, key["whpk"]) for key in (old, new)] == [True, True]
        await who.acme.post(f"{path}/rotate-secret", json={"overlap_s": 0})
        got = await example_to(who.acme, first, listener)
        assert [accepted(got, key["whpk"]) for key in (old, new)] == [False, False]
        assert accepted(got, (await who.acme.get(f"{path}/keys")).json())


async def test_receivers_of_an_endpoint_without_a_key_pair_change_during_a_rotation(
    nats_server: EmbeddedNats, auth: AuthSettings
):
    """As an earlier version stored it: its v1a signatures are by the key that endpoints had in common."""
    async with (
        edit_endpoints(nats_server.settings) as editor,
        callers(nats_server, auth) as who,
        listening() as listener,
    ):
        secrets = (EndpointSecret(SecretStr(new_secret())),)
        endpoint = await editor.make(listener.url, tenant="acme", signing="v1a", secrets=secrets)
        path, before = f"/v1/webhooks/{endpoint.id}", {"id": endpoint.id}
        async with asyncio.timeout(5):
            while (await who.acme.get(path)).status_code != 200:
                await asyncio.sleep(0.02)
        in_common = (await who.acme.get("/v1/webhooks/keys")).json()
        assert [key["shared"] for key in in_common["keys"]] == [True]
        assert (await who.acme.get(path)).json()["public_keys"] == in_common["keys"]
        assert accepted(await example_to(who.acme, before, listener), in_common)

        own, *rest = (await who.acme.post(f"{path}/rotate-secret", json={"overlap_s": 60})).json()["public_keys"]
        assert ([own["shared"]], [key["shared"] for key in rest]) == ([False], [True])
        got = await example_to(who.acme, before, listener)
        assert accepted(got, in_common), "receivers that have not changed yet"
        assert accepted(got, own["whpk"])

        await who.acme.post(f"{path}/rotate-secret", json={"overlap_s": 0})
        assert not accepted(await example_to(who.acme, before, listener), in_common)
        assert (await who.acme.get("/v1/webhooks/keys")).json() == {"keys": []}


async def test_an_older_endpoint_that_begins_to_sign_by_v1a_gets_a_key_of_its_own(
    nats_server: EmbeddedNats, auth: AuthSettings
):
    async with edit_endpoints(nats_server.settings) as editor, callers(nats_server, auth) as who:
        secrets = (EndpointSecret(SecretStr(new_secret())),)
        endpoint = await editor.make("https://hooks.example.com", tenant="acme", secrets=secrets)
        path = f"/v1/webhooks/{endpoint.id}"
        async with asyncio.timeout(5):
            while (await who.acme.get(path)).status_code != 200:
                await asyncio.sleep(0.02)
        changed = (await who.acme.patch(path, json={"signing": "v1a"})).json()
        assert [key["shared"] for key in changed["public_keys"]] == [False]
