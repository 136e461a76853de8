"""Resolves the names of webhooks' receivers: only to addresses that may be connected to, and held up by no dead name.

What is given back is what is connected to: between this check and the connection nothing is looked up again.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp.abc import AbstractResolver, ResolveResult

from services.notifier.webhooks.sending.address_guard import AddressGuard

#: Gives the IP addresses of a name, best first. Raises OSError.
Lookup = Callable[[str], Awaitable[list[str]]]

#: Addresses of one name that are tried: a name with a thousand would have us knock on each.
_ADDRESSES: Final = 4
#: Lookups at a time. One of a name whose servers are dead holds its thread for half a minute.
_LOOKUPS: Final = 128


class SystemLookup:
    """Asks the system (getaddrinfo), in a thread of its own for each name.

    Not in the event loop's pool of threads: a few dead names would take all of them, and the process would wait for
    them at its end.
    """

    def __init__(self) -> None:
        self._free = asyncio.Semaphore(_LOOKUPS)

    async def __call__(self, host: str) -> list[str]:
        """Give the addresses of a name.

        Raises:
            OSError: there is no such name, or nobody who knows it answers.
        """
        async with self._free:
            loop = asyncio.get_running_loop()
            found: asyncio.Future[list[str]] = loop.create_future()

            def settle(outcome: list[str] | OSError) -> None:
                if found.done():
                    return
                if isinstance(outcome, list):
                    found.set_result(outcome)
                else:
                    found.set_exception(outcome)

            def ask() -> None:
                try:
                    infos = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
                    outcome: list[str] | OSError = [str(info[4][0]) for info in infos]
                except OSError as error:
                    outcome = error
                except UnicodeError as error:  # a label that is too long for the idna codec
                    outcome = OSError(str(error))
                with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                    loop.call_soon_threadsafe(settle, outcome)

            threading.Thread(target=ask, name="webhook-lookup", daemon=True).start()
            return await found


class GuardedResolver(AbstractResolver):
    """What aiohttp resolves with: the addresses of a name that its guard lets through."""

    def __init__(self, lookup: Lookup, guard: AddressGuard) -> None:
        self._lookup = lookup
        self._guard = guard

    async def resolve(
        self,
        host: str,
        port: int = 0,
        family: socket.AddressFamily = socket.AF_UNSPEC,  # noqa: ARG002 - the sender asks for both
    ) -> list[ResolveResult]:
        """Resolve a name.

        Raises:
            AddressRefusedError: it leads only to addresses that may not be connected to.
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
        """Hold nothing."""


def _both_families(addresses: list[str]) -> list[str]:
    """Keep a few addresses, of both families where there are both: one of them may be without a route."""
    v6 = [address for address in addresses if ":" in address]
    v4 = [address for address in addresses if ":" not in address]
    half = _ADDRESSES // 2
    kept = {*v6[: max(half, _ADDRESSES - len(v4))], *v4[: max(half, _ADDRESSES - len(v6))]}
    return [address for address in addresses if address in kept]
