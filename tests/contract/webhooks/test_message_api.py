"""The routes of endpoints for messages: templates and e-mail, over a real notifier, nats-server and mail server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kit.auth.api_keys import AuthSettings
from services.notifier.settings import SmtpSettings
from services.notifier.webhooks.messages.formats import MESSAGE_TYPES
from services.notifier.webhooks.messages.values import NAMES
from tests.harness.servers.embedded import HOST, EmbeddedNats
from tests.harness.webhooks.callers import callers, create, keys_of_two_tenants
from tests.harness.webhooks.listeners import listening
from tests.harness.webhooks.mail_servers import FROM, receiving_mail

pytestmark = pytest.mark.anyio

OPS = "mailto:ops@example.com"


@pytest.fixture
def auth(tmp_path: Path) -> AuthSettings:
    return keys_of_two_tenants(tmp_path)


def smtp(port: int = 25) -> SmtpSettings:
    return SmtpSettings(host=HOST, port=port, tls="none", sender=FROM, recipient_domains="example.com, example.org")


async def test_an_endpoint_for_messages_is_told_what_people_want_to_know(nats_server: EmbeddedNats, auth: AuthSettings):
    quiet = {"start": "22:00", "end": "07:00", "time_zone": "Europe/Berlin"}
    async with callers(nats_server, auth) as who:
        made = await create(who.acme, format="poke", quiet_hours=quiet, rate_per_s=0.001)
        assert (made["format"], made["quiet_hours"], made["rate_per_s"]) == ("poke", quiet, 0.001)
        assert made["types"] == [*MESSAGE_TYPES]
        path = f"/v1/webhooks/{made['id']}"
        changed = await who.acme.patch(path, json={"quiet_hours": None, "format": "slack"})
        assert (changed.json()["quiet_hours"], changed.json()["format"]) == (None, "slack")
        assert (await who.acme.get(path)).json() == changed.json()
        for wrong in (
            {"format": "fax"},
            {"quiet_hours": quiet | {"time_zone": "Mars"}},
            {"quiet_hours": {"start": "9"}},
        ):
            refused = await who.acme.patch(path, json=wrong)
            assert (refused.status_code, refused.json()["code"]) == (422, "invalid_parameter"), wrong
        named = await create(who.acme, format="text", types=["job.cancelled"])
        assert named["types"] == ["job.cancelled"]
        all_events = await create(who.acme)
        changed = await who.acme.patch(f"/v1/webhooks/{all_events['id']}", json={"format": "poke"})
        assert changed.json()["types"] == made["types"], "people are not told every event"
        emptied = await who.acme.patch(f"/v1/webhooks/{named['id']}", json={"types": []})
        assert emptied.json()["types"] == made["types"]
        back = await who.acme.patch(f"/v1/webhooks/{named['id']}", json={"types": [], "format": "cloudevents"})
        assert back.json()["types"] == []


async def test_a_test_of_an_endpoint_shows_its_message_with_example_values(
    nats_server: EmbeddedNats, auth: AuthSettings
):
    async with (
        receiving_mail() as mailbox,
        listening() as chat,
        callers(nats_server, auth, None, smtp(mailbox.port)) as who,
    ):
        template = {"template": "{{job.title}} failed: <{{error.message}}>"}
        mails = await create(who.acme, OPS, format="email", subject="{{error.code}} of {{job.title}}", **template)
        slack = await create(who.acme, chat.url, format="slack", **template)
        plain = await create(who.acme, chat.url)
        assert (mails["template"], mails["subject"]) == (template["template"], "{{error.code}} of {{job.title}}")
        text = "Test, with example values: Lap comparison failed: <It has 3 frames.>"

        answer = (await who.acme.post(f"/v1/webhooks/{mails['id']}/test")).json()
        assert (answer["delivered"], answer["status"]) == (True, 250)
        assert answer["message"] == {"subject": "clip_too_short of Lap comparison", "text": text}
        assert mailbox.got[0].text == text
        assert str(mailbox.got[0].message["Subject"]) == answer["message"]["subject"]

        answer = (await who.acme.post(f"/v1/webhooks/{slack['id']}/test")).json()
        assert answer["message"]["text"] == text
        assert json.loads(chat.got[0].body) == {"text": text.replace("<", "&lt;").replace(">", "&gt;")}

        assert (await who.acme.post(f"/v1/webhooks/{plain['id']}/test")).json()["message"] is None


async def test_without_a_mail_server_an_endpoint_for_email_is_refused(nats_server: EmbeddedNats, auth: AuthSettings):
    async with callers(nats_server, auth) as who:
        answer = await who.acme.post("/v1/webhooks", json={"url": OPS, "format": "email"})
        assert (answer.status_code, answer.json()["code"]) == (501, "email_not_configured")
        assert "NOTIFIER_SMTP_HOST" in answer.json()["hint"]
        slack = await create(who.acme, format="slack")
        answer = await who.acme.patch(f"/v1/webhooks/{slack['id']}", json={"url": OPS, "format": "email"})
        assert answer.json()["code"] == "email_not_configured"


async def test_what_a_format_cannot_use_is_refused(nats_server: EmbeddedNats, auth: AuthSettings):
    https = "https://hooks.example.com/x"
    refused = [
        ({"url": OPS}, "url: an address for e-mail needs the format `email`."),
        ({"url": OPS, "format": "slack"}, "url: an address for e-mail needs the format `email`."),
        ({"url": https, "format": "email"}, "url: An e-mail goes to a URL that begins with mailto:"),
        ({"url": f"{OPS}?subject=x", "format": "email"}, "url: The URL has fields"),
        ({"url": "mailto:ops@example.net", "format": "email"}, "url: ops@example.net is not allowed"),
        ({"url": OPS, "format": "email", "headers": {"X": "y"}}, "headers: e-mails have none."),
        ({"url": OPS, "format": "email", "types": ["job.progressed"]}, "types: progress is not sent by e-mail."),
        ({"url": https, "template": "x"}, "template: only messages have one."),
        ({"url": https, "format": "slack", "subject": "x"}, "subject: only e-mails have one."),
    ]
    async with callers(nats_server, auth, None, smtp()) as who:
        for body, detail in refused:
            answer = await who.acme.post("/v1/webhooks", json=body)
            assert (answer.status_code, answer.json()["code"]) == (422, "invalid_parameter"), answer.text
            assert answer.json()["detail"].startswith(detail)
        made = await create(who.acme, OPS, format="email", template="{{message}}", subject="S")
        path = f"/v1/webhooks/{made['id']}"
        for change in ({"format": "slack"}, {"url": https}, {"headers": {"X": "y"}}, {"types": ["job.progressed"]}):
            answer = await who.acme.patch(path, json=change)
            assert answer.json()["code"] == "invalid_parameter", change
        assert (await who.acme.get(path)).json() == {name: made[name] for name in made if name != "secret"}
        changed = await who.acme.patch(path, json={"url": https, "format": "slack", "subject": None})
        assert (changed.json()["format"], changed.json()["subject"]) == ("slack", None)


async def test_a_template_with_an_unknown_name_is_refused_with_the_known_ones(
    nats_server: EmbeddedNats, auth: AuthSettings
):
    async with callers(nats_server, auth) as who:
        for template in ("{{job.owner}}", "{{job.id", "{{ config.__class__ }}", ""):
            answer = await who.acme.post(
                "/v1/webhooks", json={"url": "https://hooks.example.com/x", "format": "text", "template": template}
            )
            assert answer.status_code == 422, template
        answer = await who.acme.post(
            "/v1/webhooks", json={"url": "https://hooks.example.com/x", "format": "text", "template": "{{job.owner}}"}
        )
        assert all(name in answer.json()["detail"] for name in NAMES), answer.text
