"""The address guard: refused networks, allowed ones, and the addresses of a name. The tables of spellings are tried in
tests/unit/services/notifier/webhooks/endpoints/test_url_check.py.
"""

from __future__ import annotations

import re

import pytest

from kit.network.address_guard import REFUSED, AddressGuard
from kit.network.name_lookup import GuardedResolver
from kit.network.urls import URL_PATTERN, parse_url


class Names:
    """A lookup that answers with the same addresses for every name."""

    def __init__(self, addresses: list[str]) -> None:
        self.addresses = addresses

    async def __call__(self, host: str) -> list[str]:
        return self.addresses if host else []


def test_the_refused_networks_do_not_depend_on_the_version_of_python() -> None:
    for network, _ in REFUSED:
        for address in (network[0], network[-1]):
            assert AddressGuard().refusal(str(address)), f"{address} of {network}"


@pytest.mark.anyio
async def test_a_few_addresses_of_both_families_are_tried() -> None:
    names = Names([*(f"2606:4700::{n:x}" for n in range(1, 500)), *(f"9.9.{n}.9" for n in range(200))])
    found = await GuardedResolver(names, AddressGuard()).resolve("many.example.com", 443)
    assert [result["host"] for result in found] == ["2606:4700::1", "2606:4700::2", "9.9.0.9", "9.9.1.9"]


@pytest.mark.parametrize(
    ("networks", "address"),
    [
        (["10.0.0.0/8"], "172.16.0.1"),
        (["10.0.0.0/8"], "192.168.0.1"),
        (["10.0.0.0/8"], "::ffff:10.0.0.1"),
        (["0.0.0.0/0", "::/0"], "169.254.169.254"),
        (["0.0.0.0/0", "::/0"], "168.63.129.16"),
        (["0.0.0.0/0", "::/0"], "fd00:ec2::254"),
        (["169.254.0.0/16"], "169.254.169.254"),
        (["64:ff9b::/96"], "64:ff9b::10.0.0.1"),
        (["64:ff9b::/96"], "64:ff9b::169.254.169.254"),
        (["2002::/16"], "2002:7f00:1::"),
        (["2001::/32"], "2001:0:4136:e378:8000:63bf:80ff:fffe"),
        (["::ffff:0:0/96"], "::ffff:127.0.0.1"),
    ],
)
def test_an_allowed_network_allows_nothing_else(networks: list[str], address: str) -> None:
    assert AddressGuard.allowing(networks).refusal(address)


@pytest.mark.parametrize("network", ["10.0.0.1/8", "10.0.0.0/33", "inside", ""])
def test_an_invalid_network_is_refused_at_the_start(network: str) -> None:
    with pytest.raises(ValueError, match=r"network|host bits|IPv4"):
        AddressGuard.allowing([network])


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://Example.com/secret/path?key=1", "https://example.com:443"),
        ("http://example.com", "http://example.com:80"),
        ("https://[2606:4700::1]:8443/x", "https://[2606:4700::1]:8443"),
    ],
)
def test_an_origin_is_without_the_path(url: str, origin: str) -> None:
    assert parse_url(url).origin == origin
    assert re.fullmatch(URL_PATTERN, url)
