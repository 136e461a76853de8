"""IP addresses that may be connected to when somebody else chose the destination: webhooks, inputs by URL. Pure.

A URL is checked twice: when it is accepted (urls.py), so that the error says what to change; and at each connection by
the address that is connected to, which is what protects the internal network. A name is never trusted: only the
addresses it resolves to are checked.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

#: Refused networks and the reason; the first match is reported. Not ``ipaddress.is_global``: in Python 3.11 it is true
#: for multicast, NAT64, 6to4, ::127.0.0.1 and more. Sources: the IANA special-purpose registries of IPv4 and IPv6
#: (RFC 6890 and later), the clouds' metadata addresses. IPv6 outside 2000::/3 is not on the public internet at all.
REFUSED: Final[tuple[tuple[Network, str], ...]] = tuple(
    (ip_network(network), why)
    for network, why in (
        ("168.63.129.16/32", "Azure's metadata"),
        ("100.100.100.200/32", "Alibaba's metadata"),
        ("192.0.0.192/32", "Oracle's metadata"),
        ("169.254.0.0/16", "link-local, where clouds serve metadata"),
        ("0.0.0.0/8", "this network"),
        ("10.0.0.0/8", "private"),
        ("100.64.0.0/10", "shared by a carrier"),
        ("127.0.0.0/8", "loopback"),
        ("172.16.0.0/12", "private"),
        ("192.0.0.0/24", "IETF protocol assignments"),
        ("192.0.2.0/24", "documentation"),
        ("192.31.196.0/24", "AS112"),
        ("192.52.193.0/24", "AMT"),
        ("192.88.99.0/24", "6to4 relay"),
        ("192.168.0.0/16", "private"),
        ("192.175.48.0/24", "AS112"),
        ("198.18.0.0/15", "benchmarks"),
        ("198.51.100.0/24", "documentation"),
        ("203.0.113.0/24", "documentation"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved"),
        ("::/128", "unspecified"),
        ("::1/128", "loopback"),
        ("::ffff:0:0/96", "IPv4-mapped"),
        ("::ffff:0:0:0/96", "IPv4-translated"),
        ("::/96", "IPv4-compatible"),
        ("64:ff9b::/96", "NAT64"),
        ("64:ff9b:1::/48", "NAT64 of a local network"),
        ("100::/64", "discarded"),
        ("2001::/32", "Teredo"),
        ("2001::/23", "IETF protocol assignments"),
        ("2001:db8::/32", "documentation"),
        ("2002::/16", "6to4"),
        ("2620:4f:8000::/48", "AS112"),
        ("3fff::/20", "documentation"),
        ("5f00::/16", "segment routing"),
        ("fc00::/7", "private, where clouds serve metadata"),
        ("fe80::/10", "link-local"),
        ("fec0::/10", "site-local"),
        ("ff00::/8", "multicast"),
        ("::/3", "reserved"),
        ("4000::/2", "reserved"),
        ("8000::/1", "reserved"),
    )
)

#: Clouds serve credentials here: allowed only by a network that is exactly the address.
METADATA: Final = frozenset(
    ip_address(address)
    for address in (
        "169.254.169.254",
        "169.254.170.2",
        "169.254.170.23",
        "168.63.129.16",
        "100.100.100.200",
        "192.0.0.192",
        "fd00:ec2::254",
        "fd00:ec2::23",
        "fd20:ce::254",
    )
)

#: IPv6 prefixes that carry an IPv4 address, and by how many bits it is shifted to the left; Teredo's is inverted.
_CARRIERS: Final = tuple(
    (IPv6Network(network), shift)
    for network, shift in (
        ("::ffff:0:0/96", 0),
        ("::ffff:0:0:0/96", 0),
        ("::/96", 0),
        ("64:ff9b::/96", 0),
        ("64:ff9b:1::/48", 0),
        ("2001::/32", 0),
        ("2002::/16", 80),
    )
)
_TEREDO: Final = IPv6Network("2001::/32")


class AddressRefusedError(OSError):
    """A connection was refused because of its address."""


@dataclass(frozen=True)
class AddressGuard:
    """Allows connections to public addresses and to those of ``allowed_networks``."""

    allowed_networks: tuple[Network, ...] = ()

    @classmethod
    def allowing(cls, networks: Iterable[str]) -> AddressGuard:
        """Return a guard that allows networks in CIDR notation ("10.0.0.0/8", "127.0.0.1").

        Raises:
            ValueError: an entry is not a network, or has bits set outside its prefix.
        """
        return cls(tuple(ip_network(network.strip()) for network in networks))

    def refusal(self, text: str) -> str | None:
        """Return why an address may not be connected to; None if it may.

        An allowed network that only embeds IPv4 addresses (NAT64 …) allows those that are allowed by themselves.

        Args:
            text: an IP address as the system gives it, with or without a zone.
        """
        try:
            address = ip_address(text.partition("%")[0])
        except ValueError:
            return "not an IP address"
        carried = carried_ipv4(address)
        if self._allows(address):
            return None if carried is None else self.refusal(str(carried))
        return next((why for network, why in REFUSED if address in network), None)

    def check(self, text: str) -> None:
        """Check an address.

        Raises:
            AddressRefusedError: it may not be connected to.
        """
        if why := self.refusal(text):
            raise AddressRefusedError(f"{text} is not an address that may be connected to ({why})")

    def _allows(self, address: Address) -> bool:
        exactly = address in METADATA
        return any(
            address in network and (not exactly or network.num_addresses == 1) for network in self.allowed_networks
        )


def carried_ipv4(address: Address) -> IPv4Address | None:
    """Return the IPv4 address embedded in an IPv6 address of a transition mechanism; None when there is none."""
    if isinstance(address, IPv4Address) or int(address) <= 1:  # :: and ::1 carry nothing
        return None
    for network, shift in _CARRIERS:
        if address in network:
            bits = int(address) >> shift & 0xFFFFFFFF
            return IPv4Address(bits ^ 0xFFFFFFFF if network == _TEREDO else bits)
    return None
