"""The routes of webhook endpoints and deliveries, over a real notifier and a real nats-server."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from standardwebhooks import Webhook

from contracts.streams import WEBHOOKS
from kit.auth.api_keys import AuthSettings
from kit.bus.connection import connect
from kit.bus.event_store import EventStore
from services.notifier.settings import WebhookSettings
from tests.harness.openapi.generated import run_schemathesis
from tests.harness.openapi.hostile import hostile_requests, requests_of, send
from tests.harness.openapi.methods import check_methods
from tests.harness.servers.embedded import EmbeddedNats
from tests.harness.share import Share
from tests.harness.streams.notifier import NotifierProcess, publisher, submitted, succeeded
from tests.harness.webhooks.callers import callers, create, keys_of_two_tenants, webhook_settings
from tests.harness.webhooks.listeners import listening

pytestmark = pytest.mark.anyio

#: One of so many hostile requests is sent, and all of them in a soak.
HOSTILE_SHARE = 3


@pytest.fixture
def auth(tmp_path: Path) -> AuthSettings:
    return keys_of_two_tenants(tmp_path)


async def test_create_read_change_and_delete_an_endpoint(nats_server: EmbeddedNats, auth: AuthSettings):
    async with callers(nats_server, auth, webhook_settings(webhook_https_only=True)) as who:
        made = await create(who.acme, types=["job.succeeded", "job.*"], headers={"X-Key": "hidden-value"}, rate_per_s=5)
        assert made["secret"].startswith("whsec_")
        path = f"/v1/webhooks/{made['id']}"
        seen = (await who.acme.get(path)).json()
        assert seen == {name: value for name, value in made.items() if name != "secret"}
        assert (seen["header_names"], seen["types"]) == (["X-Key"], ["job.succeeded", "job.*"])
        assert (await who.acme.get("/v1/webhooks")).json() == {"data": [seen], "next_cursor": None}
        changed = await who.acme.patch(path, json={"enabled": False, "description": "mine", "rate_per_s": None})
        assert changed.status_code == 200
        assert changed.json() | {"updated_at": ""} == seen | {
            "enabled": False, "description": "mine", "rate_per_s": None, "updated_at": "",
        }  # fmt: skip
        assert (await who.acme.delete(path)).status_code == 204
        assert (await who.acme.get(path)).json()["code"] == "webhook_not_found"
        assert (await who.acme.get("/v1/webhooks")).json()["data"] == []


async def test_endpoints_are_isolated_between_tenants(nats_server: EmbeddedNats, auth: AuthSettings):
    async with callers(nats_server, auth) as who:
        made = await create(who.acme)
        path = f"/v1/webhooks/{made['id']}"
        attempts = [
            ("GET", path, None),
            ("PATCH", path, {"url": "https://rival.example.com"}),
            ("DELETE", path, None),
            ("POST", f"{path}/rotate-secret", None),
            ("POST", f"{path}/test", None),
            ("GET", f"{path}/deliveries", None),
            ("GET", f"{path}/deliveries/abc.1/attempts", None),
            ("POST", f"{path}/redeliver", {"since": "60"}),
        ]
        for method, there, body in attempts:
            answer = await who.rival.request(method, there, json=body)
            assert (answer.status_code, answer.json()["code"]) == (404, "webhook_not_found"), (method, there)
        assert (await who.rival.get("/v1/webhooks")).json()["data"] == []
        for method, there, body in [*attempts[1:5], attempts[7], ("GET", "/v1/webhooks/default/secret", None)]:
            assert (await who.acme_reader.request(method, there, json=body)).status_code == 403, (method, there)
        assert (await who.acme_reader.get(path)).status_code == 200
        async with httpx.AsyncClient(base_url=who.acme.base_url) as anonymous:
            assert (await anonymous.get("/v1/webhooks")).status_code == 401
        ours, theirs = [(await client.get("/v1/webhooks/default/secret")).json() for client in (who.acme, who.rival)]
        assert ours != theirs


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({}, "invalid_parameter"),
        ({"url": "http://hooks.example.com"}, "invalid_parameter"),
        ({"url": "https://127.0.0.1/x"}, "invalid_parameter"),
        ({"url": "https://169.254.169.254/latest"}, "invalid_parameter"),
        ({"url": "https://user:secret@hooks.example.com"}, "invalid_parameter"),
        ({"url": "https://hooks.example.com", "types": ["job.suceeded"]}, "invalid_parameter"),
        ({"url": "https://hooks.example.com", "types": ["webhook.delivered"]}, "invalid_parameter"),
        ({"url": "https://hooks.example.com", "headers": {"webhook-id": "mine"}}, "invalid_parameter"),
        ({"url": "https://hooks.example.com", "headers": {"Host": "x"}}, "invalid_parameter"),
        ({"url": "https://hooks.example.com", "headers": {"X": "a\r\nInjected: yes"}}, "invalid_parameter"),
        ({"url": "https://hooks.example.com", "rate_per_s": 0}, "invalid_parameter"),
        ({"url": "https://hooks.example.com", "signing": "v2"}, "invalid_parameter"),
        ({"url": "https://hooks.example.com", "surprise": 1}, "unknown_parameter"),
    ],
)  # fmt: skip
async def test_invalid_fields_are_refused(
    nats_server: EmbeddedNats, auth: AuthSettings, body: dict[str, Any], code: str
):
    strict = webhook_settings(webhook_https_only=True, webhook_allowed_networks="")
    async with callers(nats_server, auth, strict) as who:
        answer = await who.acme.post("/v1/webhooks", json=body)
        assert (answer.status_code, answer.json()["code"]) == (422, code), answer.text
        assert "hint" in answer.json()
        assert (await who.acme.get("/v1/webhooks")).json()["data"] == []


@pytest.mark.parametrize(
    ("with_keys", "settings", "accepted"),
    [
        (True, {}, []),
        (True, {"webhook_allowed_networks": "127.0.0.0/8"}, ["https"]),
        (True, {"webhook_allowed_networks": "127.0.0.0/8", "webhook_https_only": False}, ["http", "https"]),
        (False, {}, ["http", "https"]),
        (False, {"webhook_https_only": True}, ["https"]),
        (False, {"webhook_allowed_networks": ""}, []),
    ],
)
async def test_only_in_embedded_mode_or_by_a_setting_is_loopback_a_receiver(
    nats_server: EmbeddedNats, auth: AuthSettings, with_keys: bool, settings: dict[str, Any], accepted: list[str]
):
    given = WebhookSettings(secret_key=SecretStr("k" * 32), **settings)
    async with callers(nats_server, auth if with_keys else AuthSettings(), given) as who, listening() as listener:
        for scheme in ("http", "https"):
            url = f"{scheme}://127.0.0.1:{listener.url.split(':')[-1]}"
            answer = await who.acme.post("/v1/webhooks", json={"url": url})
            assert (answer.status_code == 201) == (scheme in accepted), (scheme, answer.text)


async def test_an_endpoint_on_loopback_gets_nothing_once_there_are_keys(nats_server: EmbeddedNats, auth: AuthSettings):
    async with listening() as listener:
        async with callers(nats_server, auth) as who:
            made = await create(who.acme, listener.url)
            assert (await who.acme.post(f"/v1/webhooks/{made['id']}/test")).json()["delivered"]
        async with callers(nats_server, auth, WebhookSettings(secret_key=SecretStr("k" * 32))) as who:
            answer = (await who.acme.post(f"/v1/webhooks/{made['id']}/test")).json()
            assert (answer["delivered"], answer["error"], answer["response_excerpt"]) == (False, "address_refused", "")
        assert len(listener.got) == 1


async def test_the_stream_contains_no_secret_in_plain_text(nats_server: EmbeddedNats, auth: AuthSettings):
    async with callers(nats_server, auth) as who:
        made = await create(who.acme, "https://hooks.example.com/path-secret", headers={"X-Key": "header-secret"})
        default = (await who.acme.get("/v1/webhooks/default/secret")).json()["secret"]
        client = await connect(nats_server.settings, "reader")
        stored = [item async for item in EventStore(client, WEBHOOKS.name).history(0)]
        await client.close()
        assert stored
        for secret in ("path-secret", "header-secret", made["secret"], made["secret"].removeprefix("whsec_"), default):
            assert not any(secret.encode() in item.body for item in stored), secret


async def test_an_idempotency_key_creates_one_endpoint(nats_server: EmbeddedNats, auth: AuthSettings):
    async with callers(nats_server, auth) as who:
        headers, body = {"Idempotency-Key": "once"}, {"url": "https://hooks.example.com/x"}
        answers = await asyncio.gather(*(who.acme.post("/v1/webhooks", json=body, headers=headers) for _ in range(8)))
        assert {answer.status_code for answer in answers} == {201}
        assert len({answer.json()["id"] for answer in answers}) == 1
        assert len({answer.json()["secret"] for answer in answers}) == 1
        other = await who.acme.post("/v1/webhooks", json=body | {"description": "x"}, headers=headers)
        assert other.json()["code"] == "idempotency_key_reused"


async def test_changes_reach_every_notifier_and_one_of_two_concurrent_changes_wins(
    nats_server: EmbeddedNats, auth: AuthSettings
):
    async with callers(nats_server, auth) as here, callers(nats_server, auth) as there:
        made = await create(here.acme)
        path = f"/v1/webhooks/{made['id']}"
        async with asyncio.timeout(5):
            while (await there.acme.get(path)).status_code != 200:
                await asyncio.sleep(0.02)
        answers = await asyncio.gather(
            *(who.acme.patch(path, json={"description": name}) for who, name in ((here, "here"), (there, "there")) * 4)
        )
        good = [answer.json()["description"] for answer in answers if answer.status_code == 200]
        assert good
        assert {answer.json()["code"] for answer in answers if answer.status_code != 200} <= {"webhook_changed"}
        async with asyncio.timeout(5):
            while (await there.acme.get(path)).json() != (await here.acme.get(path)).json():
                await asyncio.sleep(0.02)


async def test_rotated_secrets_overlap(nats_server: EmbeddedNats, auth: AuthSettings):
    async with callers(nats_server, auth) as who, listening() as listener:
        first = await create(who.acme, listener.url)
        path = f"/v1/webhooks/{first['id']}"
        second = (await who.acme.post(f"{path}/rotate-secret", json={"overlap_s": 60})).json()
        assert len(second["previous_secrets_expire_at"]) == 1
        answer = (await who.acme.post(f"{path}/test")).json()
        assert answer["delivered"], answer
        for secret in (first["secret"], second["secret"]):
            got = listener.got[-1]
            Webhook(secret).verify(got.body, got.headers)
        third = (await who.acme.post(f"{path}/rotate-secret", json={"overlap_s": 0})).json()
        assert third["previous_secrets_expire_at"] == []
        await who.acme.post(f"{path}/test")
        Webhook(third["secret"]).verify(listener.got[-1].body, listener.got[-1].headers)
        with pytest.raises(Exception, match="signature"):
            Webhook(second["secret"]).verify(listener.got[-1].body, listener.got[-1].headers)


async def test_deliveries_and_attempts_are_listed_and_redelivered(nats_server: EmbeddedNats, auth: AuthSettings):
    async with (
        callers(nats_server, auth) as who,
        listening() as listener,
        publisher(nats_server.settings) as publish,
    ):
        older_id = await publish.submit("acme")
        made = await create(who.acme, listener.url, types=["job.*"])
        path = f"/v1/webhooks/{made['id']}"
        job_id = await publish.submit("acme")
        await publish.say(job_id, succeeded(), "acme")
        await publish.submit("rival")

        async def delivered(count: int) -> list[dict[str, Any]]:
            async with asyncio.timeout(15):
                while True:
                    page = (await who.acme.get(f"{path}/deliveries", params={"state": "delivered"})).json()
                    if sum(item["attempts"] for item in page["data"]) >= count:
                        return list(page["data"])
                    await asyncio.sleep(0.05)

        found = await delivered(2)
        assert [item["event_type"] for item in found] == ["job.succeeded", "job.submitted"]
        assert {item["event_subject"] for item in found} == {job_id}
        pages = [(await who.acme.get(f"{path}/deliveries", params={"limit": 1})).json()]
        pages.append(
            (await who.acme.get(f"{path}/deliveries", params={"limit": 1, "cursor": pages[0]["next_cursor"]})).json()
        )
        assert [page["data"][0]["id"] for page in pages] == [item["id"] for item in found]
        assert pages[1]["next_cursor"] is None
        attempts = (await who.acme.get(f"{path}/deliveries/{found[0]['id']}/attempts")).json()["data"]
        assert [(attempt["attempt"], attempt["status"], attempt["error"]) for attempt in attempts] == [(1, 200, None)]
        asked = await who.acme.post(f"{path}/redeliver", json={"delivery_id": found[0]["id"]})
        assert (asked.status_code, asked.json()["events"]) == (202, 1)
        await delivered(3)
        # An hour ago there was no endpoint yet: what is older than it was never sent, and is not sent now.
        asked = await who.acme.post(f"{path}/redeliver", json={"since": "3600"})
        assert (asked.status_code, asked.json()["events"]) == (202, 2)
        again = await delivered(5)
        assert older_id not in {item["event_subject"] for item in again}
        asked = await who.acme.post(f"{path}/redeliver", json={"since": "0"})
        assert asked.json()["events"] == 0
        assert [got.headers["webhook-id"] for got in listener.got].count(found[0]["event_id"]) == 3
        for body, code in [
            ({}, "invalid_parameter"),
            ({"delivery_id": "x", "since": "5"}, "invalid_parameter"),
            ({"delivery_id": "nonsense"}, "delivery_not_found"),
            ({"since": "yesterday"}, "invalid_parameter"),
        ]:
            assert (await who.acme.post(f"{path}/redeliver", json=body)).json()["code"] == code, body


async def test_a_jobs_own_url_is_listed_under_the_job(nats_server: EmbeddedNats, auth: AuthSettings):
    async with (
        callers(nats_server, auth) as who,
        listening() as listener,
        publisher(nats_server.settings) as publish,
    ):
        secret = (await who.acme.get("/v1/webhooks/default/secret")).json()["secret"]
        job_id = "job_0198c0de-0000-7000-8000-000000000009"
        await publish.say(job_id, submitted().model_copy(update={"webhook_url": listener.url}), "acme")
        async with asyncio.timeout(15):
            while not listener.got:
                await asyncio.sleep(0.02)
        Webhook(secret).verify(listener.got[0].body, listener.got[0].headers)
        async with asyncio.timeout(15):
            while not (page := await who.acme.get(f"/v1/webhooks/{job_id}/deliveries")).json().get("data"):
                await asyncio.sleep(0.02)
        assert page.json()["data"][0]["event_type"] == "job.submitted"
        assert (await who.rival.get(f"/v1/webhooks/{job_id}/deliveries")).status_code == 404


async def test_the_default_secret_is_rotated_with_overlap(nats_server: EmbeddedNats, auth: AuthSettings):
    path = "/v1/webhooks/default/rotate-secret"
    async with (
        callers(nats_server, auth) as who,
        listening() as listener,
        publisher(nats_server.settings) as publish,
    ):
        first = (await who.acme.get("/v1/webhooks/default/secret")).json()
        assert first["previous_secrets_expire_at"] == []
        assert (await who.acme_reader.post(path)).status_code == 403
        theirs = (await who.rival.get("/v1/webhooks/default/secret")).json()
        second = (await who.acme.post(path, json={"overlap_s": 60})).json()
        assert second["secret"] != first["secret"]
        assert len(second["previous_secrets_expire_at"]) == 1
        assert (await who.acme.get("/v1/webhooks/default/secret")).json() == second
        assert (await who.rival.get("/v1/webhooks/default/secret")).json() == theirs
        job_id = "job_0198c0de-0000-7000-8000-000000000010"
        await publish.say(job_id, submitted().model_copy(update={"webhook_url": listener.url}), "acme")
        async with asyncio.timeout(15):
            while not listener.got:
                await asyncio.sleep(0.02)
        for secret in (first["secret"], second["secret"]):
            Webhook(secret).verify(listener.got[0].body, listener.got[0].headers)


async def test_a_default_secret_encrypted_with_another_key_is_reported_and_can_be_rotated(
    nats_server: EmbeddedNats, auth: AuthSettings
):
    async with callers(nats_server, auth) as who:
        first = (await who.acme.get("/v1/webhooks/default/secret")).json()["secret"]
    async with callers(nats_server, auth, webhook_settings(secret_key=SecretStr("x" * 32))) as who:
        answer = await who.acme.get("/v1/webhooks/default/secret")
        assert (answer.status_code, answer.json()["code"]) == (501, "webhooks_not_configured")
        assert "rotate-secret" in answer.json()["hint"]
        made = (await who.acme.post("/v1/webhooks/default/rotate-secret")).json()
        assert made["previous_secrets_expire_at"] == []
        assert made["secret"] == (await who.acme.get("/v1/webhooks/default/secret")).json()["secret"] != first


async def test_without_the_secret_key_the_routes_answer_not_configured(nats_server: EmbeddedNats, auth: AuthSettings):
    async with callers(nats_server, auth, WebhookSettings(secret_key=None)) as who:
        answer = await who.acme.post("/v1/webhooks", json={"url": "https://hooks.example.com"})
        assert (answer.status_code, answer.json()["code"]) == (501, "webhooks_not_configured")


async def test_the_openapi_document_is_published(nats_server: EmbeddedNats, auth: AuthSettings):
    async with callers(nats_server, auth) as who, httpx.AsyncClient(base_url=who.acme.base_url) as anonymous:
        paths = (await anonymous.get("/v1/webhooks/openapi.json")).json()["paths"]
        assert "security" in paths["/v1/webhooks"]["post"]
        assert "security" not in paths["/v1/webhooks/{webhook_id}/keys"]["get"]


@pytest.mark.soak
def test_requests_made_from_the_document(
    nats_server: EmbeddedNats, tmp_path: Path, seed: int, soak_runs: int, share: Share
):
    """Generated and hostile ones, and methods that a path does not have."""
    with NotifierProcess(nats_server.settings, NOTIFIER_SECRET_KEY="k" * 32) as process:
        document = httpx.get(f"{process.url}/v1/webhooks/openapi.json").json()
        # A test sends, and nothing may leave the machine.
        del document["paths"]["/v1/webhooks/{webhook_id}/test"]
        made = httpx.post(f"{process.url}/v1/webhooks", json={"url": "https://hooks.example.com/x"}).json()
        known = {"webhook_id": made["id"]}
        for request in share.of(list(hostile_requests(document, known, seed)), HOSTILE_SHARE):
            if request.method != "HEAD":
                status = send(process.url, request).status
                assert status < 500, (status, request)
        check_methods(document, process.url, known)
        # Streams do not end; "keys" could also be an endpoint, by the path.
        more = ("--exclude-path-regex", "events$|stream$|webhooks/keys$")
        run_schemathesis(
            document,
            process.url,
            tmp_path,
            examples=soak_runs // 2,
            seed=seed,
            share=share,
            # An endpoint that was just created has no delivery that its redelivery could name.
            settings="[[operations]]\ninclude-path-regex = 'redeliver$'\n"
            "checks.ensure_resource_availability.enabled = false\n",
            more=more,
            stateful=True,
        )


async def test_where_keys_are_needed_the_document_says_which_routes_need_one(
    nats_server: EmbeddedNats, auth: AuthSettings
):
    async with callers(nats_server, auth) as who, httpx.AsyncClient(base_url=who.acme.base_url) as anonymous:
        document = (await anonymous.get("/v1/webhooks/openapi.json")).json()
        open_routes = set()
        for request in requests_of(document, {}):
            operation = document["paths"][request.path][request.method.lower()]
            answer = await anonymous.request(request.method, request.target, json=request.body, headers=request.headers)
            assert (answer.status_code == 401) == ("security" in operation) == ("401" in operation["responses"]), (
                request
            )
            if answer.status_code != 401:
                open_routes.add(request.path)
        assert open_routes == {"/v1/webhooks/keys", "/v1/webhooks/{webhook_id}/keys", "/health", "/ready", "/metrics"}
        assert {"Ticket": []} in document["paths"]["/v1/events"]["get"]["security"]
