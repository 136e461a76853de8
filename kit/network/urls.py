"""URLs that others choose: only spellings that all parsers read alike, and no names of internal machines. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import Final

from yarl import URL

from kit.network.address_guard import AddressGuard

#: Maximum length of a URL, unless the caller allows more.
URL_CHARS: Final = 2048

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


class CredentialsInUrlError(ValueError):
    """A URL has a user name or a password before its host."""


@dataclass(frozen=True)
class CheckedUrl:
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


def refusal_of(url: CheckedUrl, guard: AddressGuard) -> str | None:
    """Return why a URL is refused already by its host, without resolving its name; None if it is not."""
    if url.is_address:
        return guard.refusal(url.host)
    if guard.allowed_networks:
        return None  # it may be an internal name; its addresses are checked at each connection
    return "an internal name" if "." not in url.host or _INTERNAL_NAMES.fullmatch(url.host) else None


@lru_cache(maxsize=4096)
def parse_url(url: str, max_chars: int = URL_CHARS) -> CheckedUrl:
    """Parse a URL; only spellings that all parsers read alike are accepted.

    Raises:
        ValueError: the message says what is wrong with the URL, as a sentence; CredentialsInUrlError is one.
    """
    if len(url) > max_chars:
        raise ValueError(f"The URL has more than {max_chars} characters.")
    if not _PRINTABLE.fullmatch(url) or "\\" in url:
        raise ValueError("The URL has invalid characters: write them as %XX, and the host as xn--….")
    matched = _AUTHORITY.fullmatch(url)
    if not matched:
        raise ValueError("The URL does not begin with https:// and a host.")
    authority, rest = matched.groups()
    if "@" in authority:
        raise CredentialsInUrlError("The URL contains a user name or a password.")
    if "#" in rest:
        raise ValueError("The URL has a fragment (#…), which is never sent.")
    parsed = URL(url)  # the parser of the HTTP client
    host, port = parsed.raw_host, parsed.port
    if not host or port is None:
        raise ValueError("The URL has no host.")
    as_written = URL(f"{parsed.scheme}://{authority.lower()}{rest}", encoded=True)
    result = CheckedUrl(parsed.scheme, host.lower(), port, as_written)
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
