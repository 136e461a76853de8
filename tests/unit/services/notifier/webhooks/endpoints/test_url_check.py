"""Allowed destinations of webhooks: every row of docs/webhook_addresses.md, by the URL check and by the sender."""

from __future__ import annotations

import re
from ipaddress import ip_address

import pytest
from aiohttp.abc import ResolveResult

from contracts.errors import ErrorCode, SaccadeError
from kit.network.address_guard import AddressGuard, AddressRefusedError
from kit.network.name_lookup import GuardedResolver
from kit.network.urls import URL_PATTERN, parse_url
from services.notifier.webhooks.endpoints.url_check import check_url
from services.notifier.webhooks.sending.sender import Sender, WebhookRequest
from tests.rules.tree import ROOT

PAGE = (ROOT / "docs" / "webhook_addresses.md").read_text()
PUBLIC = "93.184.216.34"


def _table(heading: str) -> list[tuple[str, str]]:
    section = PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(.+?)` \| (.+) \|$", section, re.MULTILINE)
    assert len(rows) == section.count("\n|") - 2, "every row is read"
    return [(re.sub(r"\\u([0-9a-f]{4})", lambda found: chr(int(found[1], 16)), text), what) for text, what in rows]


URLS = _table("URLs that are refused")
ADDRESSES = _table("Addresses that are refused at the connection")
PASSING = [(url, address.strip("`")) for url, address in _table("What passes")]


class Names:
    """A lookup with given addresses that records its calls."""

    def __init__(self, **addresses: list[str]) -> None:
        self.addresses = addresses
        self.asked: list[str] = []

    async def __call__(self, host: str) -> list[str]:
        self.asked.append(host)
        return self.addresses[host.partition(".")[0]]


def test_the_tables_are_long_and_without_repetition() -> None:
    spellings = [url for url, _ in URLS]
    assert len(spellings) + len(ADDRESSES) >= 150
    assert len(set(spellings)) == len(spellings)
    assert len({address for address, _ in ADDRESSES}) == len(ADDRESSES)


@pytest.mark.parametrize("url", [url for url, _ in URLS], ids=ascii)
def test_an_internal_url_is_refused_when_an_endpoint_is_created(url: str) -> None:
    with pytest.raises(SaccadeError) as refused:
        check_url(url, https_only=True, guard=AddressGuard())
    assert refused.value.code == ErrorCode.INVALID_PARAMETER
    assert refused.value.message.startswith("url: ")
    assert len(refused.value.hint) > 20


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("https://user:password@example.com/", "send them as a header"),
        ("https://example.com./", "ends with a dot"),
        ("https://example.com/#x", "fragment"),
        ("https://2130706433/", "write four numbers"),
        ("https://[fe80::1%25eth0]/", "zone"),
        ("https://b\u00fccher.example/", "xn--"),
        ("https://example.com:25/", "another protocol"),
        ("https://" + "a" * 3000, "2048 characters"),
        ("http://example.com/", "not encrypted"),
        ("https://10.0.0.1/", "(private)"),
    ],
)
def test_a_refusal_says_what_to_change(url: str, says: str) -> None:
    with pytest.raises(SaccadeError) as refused:
        check_url(url, https_only=True, guard=AddressGuard())
    assert says in refused.value.message
    assert "password" not in refused.value.message.replace("or a password", "")


@pytest.mark.anyio
async def test_an_internal_url_is_refused_when_it_is_sent_to() -> None:
    """Without the first check: a job's URL, or an endpoint that is older than a rule."""
    inside = Names()
    inside.addresses = {name: ["127.0.0.1"] for url, _ in URLS for name in _first_labels(url)}
    async with Sender(AddressGuard(), lookup=inside) as sender:
        answers = {url: await sender.send(WebhookRequest(url, {}, b"{}", 20.0)) for url, _ in URLS}
    assert {url: answer for url, answer in answers.items() if answer.error != "address_refused"} == {}
    by_number = re.compile(r"[0-9.x]+")
    assert [name for name in inside.asked if by_number.fullmatch(name)] == [], "no spelling of an address is looked up"


def _first_labels(url: str) -> list[str]:
    try:
        return [parse_url(url).host.partition(".")[0]]
    except ValueError:
        return []


@pytest.mark.anyio
@pytest.mark.parametrize("address", [address for address, _ in ADDRESSES])
async def test_a_name_with_an_internal_address_is_refused_at_the_connection(address: str) -> None:
    names = Names(alone=[address], beside=[address, PUBLIC, address])
    resolver = GuardedResolver(names, AddressGuard())
    with pytest.raises(AddressRefusedError):
        await resolver.resolve("alone.example.com", 443)
    assert [found["host"] for found in await resolver.resolve("beside.example.com", 443)] == [PUBLIC]
    async with Sender(AddressGuard(), lookup=names) as sender:
        answer = await sender.send(WebhookRequest("https://alone.example.com/", {}, b"{}", 20.0))
    assert (answer.status, answer.error) == (None, "address_refused")


@pytest.mark.anyio
@pytest.mark.parametrize(("url", "address"), PASSING, ids=[url for url, _ in PASSING])
async def test_public_urls_and_addresses_pass(url: str, address: str) -> None:
    target = check_url(url, https_only=True, guard=AddressGuard())
    resolver = GuardedResolver(Names(**{target.host.partition(".")[0]: [address]}), AddressGuard())
    if not target.is_address:
        found: list[ResolveResult] = await resolver.resolve(target.host, target.port)
        assert [(result["host"], result["port"]) for result in found] == [(address, target.port)]
    assert AddressGuard().refusal(address) is None


@pytest.mark.parametrize(
    ("networks", "url"),
    [
        (["10.0.0.0/8"], "https://10.1.2.3/hook"),
        (["127.0.0.0/8", "::1/128"], "https://[::1]:9000/hook"),
        (["127.0.0.1"], "https://127.0.0.1/hook"),
        (["172.16.0.0/12"], "https://receiver:9000/hook"),
        (["127.0.0.0/8"], "https://localhost:9000/hook"),
        (["fd00::/8"], "https://[fd12:3456::1]/"),
        (["169.254.169.254/32"], "https://169.254.169.254/"),
        (["64:ff9b::/96"], "https://[64:ff9b::808:808]/"),
    ],
)
def test_an_allowed_network_allows_its_addresses(networks: list[str], url: str) -> None:
    assert check_url(url, https_only=True, guard=AddressGuard.allowing(networks)).scheme == "https"
    assert re.fullmatch(URL_PATTERN, url)
    if parse_url(url).is_address:
        with pytest.raises(SaccadeError):
            check_url(url, https_only=True, guard=AddressGuard())


def test_http_is_only_accepted_where_it_is_allowed() -> None:
    guard = AddressGuard.allowing(["127.0.0.1/32"])
    assert check_url("http://127.0.0.1:9000/hook", https_only=False, guard=guard).origin == "http://127.0.0.1:9000"
    with pytest.raises(SaccadeError, match="not encrypted"):
        check_url("http://127.0.0.1:9000/hook", https_only=True, guard=guard)


def test_the_table_of_public_addresses_is_of_addresses() -> None:
    assert all(ip_address(address) for _, address in PASSING)
