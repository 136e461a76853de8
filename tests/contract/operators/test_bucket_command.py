"""``saccade bucket``: against a real S3 server that has no rules, and one before it that keeps them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web

from cli.operators.bucket_rules import BucketFinding, check, set_up
from kit.bucket import Bucket, open_bucket
from kit.settings import S3Settings
from tests.harness.servers.embedded import S3Server

pytestmark = pytest.mark.anyio

ORIGIN = "https://app.example.org"
FOREIGN = (
    "<CORSRule><ID>theirs</ID><AllowedOrigin>https://b</AllowedOrigin><AllowedMethod>GET</AllowedMethod></CORSRule>"
)


class RuledServer:
    """Passes requests on to a real S3 server, and keeps the rules that it lacks."""

    def __init__(self, upstream: str) -> None:
        self._upstream = upstream
        self.rules: dict[str, str] = {}
        self.refused = ""

    async def answer(self, request: web.Request) -> web.Response:
        for name in ("cors", "lifecycle"):
            if name in request.query:
                return await self._rules(name, request)
        if request.method == "OPTIONS":
            origin = request.headers["Origin"]
            allowed = f"<AllowedOrigin>{origin}</AllowedOrigin>" in self.rules.get("cors", "")
            return web.Response(status=200 if allowed else 403, headers={"Access-Control-Allow-Origin": origin})
        headers = {name: value for name, value in request.headers.items() if name != "Transfer-Encoding"}
        async with (
            aiohttp.ClientSession(auto_decompress=False) as session,
            session.request(
                request.method, f"{self._upstream}{request.raw_path}", data=await request.read(), headers=headers
            ) as passed,
        ):
            kept = {name: passed.headers[name] for name in ("ETag", "Content-Type") if name in passed.headers}
            return web.Response(status=passed.status, body=await passed.read(), headers=kept)

    async def _rules(self, name: str, request: web.Request) -> web.Response:
        if request.method == "PUT":
            text = await request.text()
            if self.refused and self.refused in text:
                return web.Response(status=400, text="<Error><Code>MalformedXML</Code></Error>")
            self.rules[name] = text
            return web.Response()
        if name not in self.rules:
            return web.Response(status=404, text=f"<Error><Code>NoSuch{name}Configuration</Code></Error>")
        return web.Response(text=self.rules[name], content_type="application/xml")


@asynccontextmanager
async def ruled(settings: S3Settings) -> AsyncIterator[tuple[RuledServer, Bucket, S3Settings]]:
    server = RuledServer(settings.endpoint_url)
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", server.answer)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        host, port = runner.addresses[0][:2]
        url = f"http://{host}:{port}"
        changed = settings.model_copy(update={"endpoint_url": url, "public_endpoint_url": url})
        async with open_bucket(changed) as bucket:
            yield server, bucket, changed
    finally:
        await runner.cleanup()


def outcomes(found: list[BucketFinding]) -> dict[str, str]:
    return {finding.name: finding.outcome for finding in found}


async def test_rules_are_installed_beside_those_of_others_and_found(any_s3_server: S3Server):
    async with ruled(any_s3_server.settings) as (server, bucket, settings):
        server.rules["cors"] = f"<CORSConfiguration>{FOREIGN}</CORSConfiguration>"
        for _ in range(2):  # a second time changes nothing
            found = await set_up(bucket, settings, [ORIGIN])
            assert outcomes(found) == {"bucket": "ok", "lifecycle": "ok", "cors": "ok"}
            assert server.rules["cors"].count("<CORSRule>") == 2
            assert "theirs" in server.rules["cors"]
            assert server.rules["lifecycle"].count("<Rule>") == 2
        found = await check(bucket, settings, [ORIGIN])
        assert set(outcomes(found).values()) == {"ok"}, found
        found = await check(bucket, settings, ["https://elsewhere.example"])
        assert outcomes(found)["cors"] == "failed"
        assert await bucket.list_keys(bucket.key("checks")) == []


async def test_a_server_without_versions_gets_the_rule_for_parts_alone(any_s3_server: S3Server):
    async with ruled(any_s3_server.settings) as (server, bucket, settings):
        server.refused = "NoncurrentVersionExpiration"
        assert outcomes(await set_up(bucket, settings, []))["lifecycle"] == "ok"
        assert server.rules["lifecycle"].count("<Rule>") == 1


async def test_a_server_without_rules_is_a_warning_and_its_other_checks_pass(any_s3_server: S3Server):
    async with open_bucket(any_s3_server.settings) as bucket:
        assert outcomes(await set_up(bucket, any_s3_server.settings, []))["lifecycle"] == "warning"
        found = outcomes(await check(bucket, any_s3_server.settings, []))
    assert found == {"bucket": "ok", "signed size": "ok", "multipart": "ok", "lifecycle": "warning"}
