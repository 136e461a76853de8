"""Rules for the destinations of webhooks: valid URLs, and IP addresses that may be connected to. Pure.

A URL is checked twice: here when an endpoint is created, so that the error says what to change; and at each connection
by the address that is connected to (sender.py), which is what protects the internal network. A name is never trusted:
only the addresses it resolves to are checked.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

from yarl import URL

from contracts.errors import ErrorCode, SaccadeError

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

URL_CHARS: Final = 2048

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

#: Ports that browsers block too (https://fetch.spec.whatwg.org/#port-blocking): other protocols could interpret a
#: request.
_BAD_PORTS: Final = frozenset({
    0, 1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95, 101, 102, 103, 104, 109,
    110, 111, 113, 115, 117, 119, 123, 135, 137, 139, 143, 161, 179, 389, 427, 465, 512, 513, 514, 515, 526, 530, 531,
    532, 540, 548, 554, 556, 563, 587, 601, 636, 989, 990, 993, 995, 1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060,
    5061, 6000, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 10080,
})  # fmt: skip

#: Names of internal machines; names without a dot count too.
_INTERNAL_NAMES: Final = re.compile(
    r"(?:.+\.)?(?:localhost|localdomain|local|internal|intranet|private|corp|home|lan|home\.arpa|onion|invalid|test)"
)
_NAME: Final = re.compile(r"(?=.{1,253}$)[a-z0-9_](?:[a-z0-9_-]{0,62})(?:\.[a-z0-9_](?:[a-z0-9_-]{0,62}))*")
#: A last label that is a number makes a whole host an IPv4 address (URL standard).
_ENDS_IN_NUMBER: Final = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)")
_AUTHORITY: Final = re.compile(r"(?i:https?)://([^/?#]*)(.*)", re.DOTALL)
#: What every accepted URL matches, for OpenAPI: a host, perhaps a port, and printable ASCII without backslash or "#".
URL_PATTERN: Final = (
    r"^[Hh][Tt][Tt][Pp][Ss]?://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{0,5})?([/?][!-\"$-\[\]-~]*)?$"
)
_PRINTABLE: Final = re.compile(r"[\x21-\x7e]+")


class AddressRefusedError(OSError):
    """A connection was refused because of its address."""


@dataclass(frozen=True)
class WebhookUrl:
    """A parsed URL; ``host`` in lower case, IPv6 without brackets, as it is resolved and as TLS names it."""

    scheme: str
    host: str
    port: int
    #: The URL to request: path and query as they were written.
    as_written: URL = field(compare=False)

    @property
    def is_address(self) -> bool:
        """Whether the host is an IP address, not a name."""
        return _is_address(self.host)

    @property
    def origin(self) -> str:
        """Scheme, host and port, without the path, which may hold a secret."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


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
            raise AddressRefusedError(f"{text} is not an address that webhooks may go to ({why})")

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


def check_url(url: str, *, https_only: bool, guard: AddressGuard) -> WebhookUrl:
    """Check the URL of a webhook without resolving its name; the error says what to change.

    Raises:
        SaccadeError: INVALID_PARAMETER.
    """
    try:
        parsed = parse_webhook_url(url)
    except ValueError as error:
        raise _invalid(str(error), "Send a URL like https://example.com/hooks/saccade.") from None
    if https_only and parsed.scheme != "https":
        raise _invalid("http is not encrypted.", "Send a URL that begins with https://.")
    if parsed.is_address:
        why = guard.refusal(parsed.host)
    elif guard.allowed_networks:
        why = None  # it may be an internal name; its addresses are checked at each connection
    elif "." not in parsed.host or _INTERNAL_NAMES.fullmatch(parsed.host):
        why = "an internal name"
    else:
        why = None
    if why:
        hint = "Send a public address, or have the operator add its network to NOTIFIER_WEBHOOK_ALLOWED_NETWORKS."
        raise _invalid(f"{parsed.host} is not an address that webhooks may go to ({why}).", hint)
    return parsed


@lru_cache(maxsize=4096)
def parse_webhook_url(url: str) -> WebhookUrl:
    """Parse a URL; only spellings that all parsers read alike are accepted.

    Raises:
        ValueError: the message says what is wrong with the URL, as a sentence.
    """
    if len(url) > URL_CHARS:
        raise ValueError(f"The URL has more than {URL_CHARS} characters.")
    if not _PRINTABLE.fullmatch(url) or "\\" in url:
        raise ValueError("The URL has invalid characters: write them as %XX, and the host as xn--….")
    matched = _AUTHORITY.fullmatch(url)
    if not matched:
        raise ValueError("The URL does not begin with https:// and a host.")
    authority, rest = matched.groups()
    if "@" in authority:
        raise ValueError("The URL contains a user name or a password: send them as a header of the endpoint.")
    if "#" in rest:
        raise ValueError("The URL has a fragment (#…), which is never sent.")
    parsed = URL(url)  # the parser of the sender
    host, port = parsed.raw_host, parsed.port
    if not host or port is None:
        raise ValueError("The URL has no host.")
    as_written = URL(f"{parsed.scheme}://{authority.lower()}{rest}", encoded=True)
    result = WebhookUrl(parsed.scheme, host.lower(), port, as_written)
    _check_host(result.host, authority)
    if port in _BAD_PORTS:
        raise ValueError(f"Port {port} belongs to another protocol.")
    written = authority.lower()
    if (as_written.raw_host, as_written.port) != (result.host, port) or result.origin not in (
        f"{result.scheme}://{written}",
        f"{result.scheme}://{written.removesuffix(':')}:{port}",
    ):
        raise ValueError(f"The host {authority[:100]!r} is not written in its usual form.")
    return result


def _check_host(host: str, authority: str) -> None:
    """Raise ValueError for every spelling of a host but a canonical address and a plain name."""
    if authority.startswith("["):
        if "%" in authority:
            raise ValueError("The address has a zone (%…): leave it out.")
        IPv6Address(host)
    elif host.endswith("."):
        raise ValueError("The host ends with a dot: leave it out.")
    elif _ENDS_IN_NUMBER.fullmatch(host):
        if not _is_address(host):
            raise ValueError(
                f"{host[:100]} is an IPv4 address in an unusual form: write four numbers, as in 192.0.2.1."
            )
    elif not _NAME.fullmatch(host):
        raise ValueError(f"{host[:100]!r} is not a valid host name.")


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _invalid(message: str, hint: str) -> SaccadeError:
    return SaccadeError(ErrorCode.INVALID_PARAMETER, f"url: {message}", hint=hint)
