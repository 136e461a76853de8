"""Resolution of names: only to allowed addresses, and not delayed by names whose servers do not answer.

The returned address is the one that is connected to: nothing is resolved again between check and connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp.abc import AbstractResolver, ResolveResult

from kit.network.address_guard import AddressGuard

#: Returns the IP addresses of a name, best first; raises OSError.
Lookup = Callable[[str], Awaitable[list[str]]]

#: Maximum addresses of one name that are tried: a name may have thousands.
_ADDRESSES: Final = 4
#: Maximum concurrent lookups. A name whose servers do not answer occupies its thread for half a minute.
_LOOKUPS: Final = 128


class SystemLookup:
    """Resolves names with the system (getaddrinfo), in one thread per lookup.

    Not in the event loop's thread pool: a few names without answer would occupy all its threads, and the process would
    wait for them at its end.
    """

    def __init__(self) -> None:
        self._free = asyncio.Semaphore(_LOOKUPS)

    async def __call__(self, host: str) -> list[str]:
        """Return the addresses of a name.

        Raises:
            OSError: the name does not exist, or its servers do not answer.
        """
        async with self._free:
            loop = asyncio.get_running_loop()
            found: asyncio.Future[list[str]] = loop.create_future()

            def finish(outcome: list[str] | OSError) -> None:
                if found.done():
                    return
                if isinstance(outcome, list):
                    found.set_result(outcome)
                else:
                    found.set_exception(outcome)

            def look_up() -> None:
                try:
                    infos = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
                    outcome: list[str] | OSError = [str(info[4][0]) for info in infos]
                except OSError as error:
                    outcome = error
                except UnicodeError as error:  # a label that is too long for the idna codec
                    outcome = OSError(str(error))
                with contextlib.suppress(RuntimeError):  # the loop is closed already
                    loop.call_soon_threadsafe(finish, outcome)

            threading.Thread(target=look_up, name="name-lookup", daemon=True).start()
            return await found


class GuardedResolver(AbstractResolver):
    """aiohttp's resolver: the addresses of a name that the guard allows."""

    def __init__(self, lookup: Lookup, guard: AddressGuard) -> None:
        self._lookup = lookup
        self._guard = guard

    async def resolve(
        self,
        host: str,
        port: int = 0,
        family: socket.AddressFamily = socket.AF_UNSPEC,  # noqa: ARG002 - both are used
    ) -> list[ResolveResult]:
        """Resolve a name.

        Raises:
            AddressRefusedError: none of its addresses may be connected to.
            OSError: it could not be resolved.
        """
        addresses = list(dict.fromkeys(await self._lookup(host)))
        allowed = [address for address in addresses if self._guard.refusal(address) is None]
        if addresses and not allowed:
            self._guard.check(addresses[0])
        if not allowed:
            raise OSError(f"{host} has no address")
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST,
            )
            for address in _both_families(allowed)
        ]

    async def close(self) -> None:
        """Do nothing: the resolver holds no resources."""


def _both_families(addresses: list[str]) -> list[str]:
    """Return a few addresses, of both families where possible: one of them may have no route."""
    v6 = [address for address in addresses if ":" in address]
    v4 = [address for address in addresses if ":" not in address]
    half = _ADDRESSES // 2
    kept = {*v6[: max(half, _ADDRESSES - len(v4))], *v4[: max(half, _ADDRESSES - len(v6))]}
    return [address for address in addresses if address in kept]
