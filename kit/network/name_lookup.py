"""Resolution of names: only to allowed addresses, and not delayed by names whose servers do not answer.

The returned address is the one that is connected to: nothing is resolved again between check and connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Final, NamedTuple

from aiohttp.abc import AbstractResolver, ResolveResult

from kit.network.address_guard import AddressGuard
from kit.slot_pool import SlotPool

#: Returns the IP addresses of a name, best first; raises OSError.
Lookup = Callable[[str], Awaitable[list[str]]]

#: Maximum addresses of one name that are tried: a name may have thousands.
_ADDRESSES: Final = 4
#: Maximum concurrent lookups. A name whose servers do not answer occupies its thread for half a minute.
_LOOKUPS: Final = 256
#: Longest wait for a thread: the one who asked has given up by then.
_TURN_S: Final = 15.0
#: Tenant for whom names are looked up, in whose turn; empty for nobody's.
LOOKUPS_FOR: Final[ContextVar[str]] = ContextVar("LOOKUPS_FOR", default="")


def _system_addresses(host: str) -> list[str]:
    infos = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    return [str(info[4][0]) for info in infos]


class _Turn(NamedTuple):
    """A lookup that waits for a thread."""

    tenant: str
    came: asyncio.Future[None]


class SystemLookup:
    """Resolves names with the system (getaddrinfo), in one thread per lookup.

    Not in the event loop's thread pool: a few names without answer would occupy all its threads, and the process would
    wait for them at its end. Tenants (``LOOKUPS_FOR``) share the threads (kit/slot_pool.py), so names that are never
    answered keep other names of their tenant waiting and no other tenant's.
    """

    def __init__(
        self,
        addresses_of: Callable[[str], list[str]] = _system_addresses,
        *,
        threads: int = _LOOKUPS,
        turn_s: float = _TURN_S,
    ) -> None:
        """Call ``addresses_of`` in at most so many threads; a lookup waits ``turn_s`` for one."""
        self._addresses_of = addresses_of
        self._turn_s = turn_s
        self._threads = SlotPool[_Turn](threads // 2)

    async def __call__(self, host: str) -> list[str]:
        """Return the addresses of a name.

        Raises:
            OSError: the name does not exist, its servers do not answer, or too many others of the tenant do not.
        """
        tenant = LOOKUPS_FOR.get()
        await self._take(tenant)
        loop = asyncio.get_running_loop()
        found: asyncio.Future[list[str]] = loop.create_future()

        def finish(outcome: list[str] | OSError) -> None:
            self._give_back(tenant)  # not before the thread has ended, also if no request is waiting for it any more
            if found.done():
                return
            if isinstance(outcome, list):
                found.set_result(outcome)
            else:
                found.set_exception(outcome)

        def look_up() -> None:
            try:
                outcome: list[str] | OSError = self._addresses_of(host)
            except OSError as error:
                outcome = error
            except UnicodeError as error:  # a label that is too long for the idna codec
                outcome = OSError(str(error))
            with contextlib.suppress(RuntimeError):  # the loop is closed already
                loop.call_soon_threadsafe(finish, outcome)

        try:
            threading.Thread(target=look_up, name="name-lookup", daemon=True).start()
        except RuntimeError as error:  # the system gives no further thread
            self._give_back(tenant)
            raise OSError(str(error)) from error
        return await found

    async def _take(self, tenant: str) -> None:
        """Wait for a thread of a tenant's share.

        Raises:
            OSError: there was none in time.
        """
        if self._threads.is_open(tenant):
            self._threads.take(tenant)
            return
        turn = _Turn(tenant, asyncio.get_running_loop().create_future())
        self._threads.wait(tenant, turn)
        try:
            async with asyncio.timeout(self._turn_s):
                await turn.came
        except BaseException as error:
            if turn.came.done() and not turn.came.cancelled():  # it had its thread already
                self._give_back(tenant)
            else:
                self._threads.leave(tenant, turn)
            if isinstance(error, TimeoutError):
                raise OSError("too many names are being looked up") from error
            raise

    def _give_back(self, tenant: str) -> None:
        """Return a thread, and assign those that are free to the tenants that may have one, in turn."""
        self._threads.release(tenant)
        while (turn := self._threads.next_waiting()) is not None:
            if not turn.came.done():
                self._threads.take(turn.tenant)
                turn.came.set_result(None)


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
