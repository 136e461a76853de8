"""Life cycle of an embedded system: data folder, servers, services, origin."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final, get_args

from cli.embedded import leftover_processes, ports, programs
from cli.embedded.data_folder import DataFolder
from cli.embedded.imported_window import ImportedWindow
from cli.embedded.origin import Origin
from cli.embedded.supervisor import Supervisor
from cli.embedded.workers_on_modal import WorkersOnModal
from cli.failure import USAGE, Failure
from cli.settings import CommandSettings, child_environment
from contracts.http_routes import RoutedService
from kit.auth.api_keys import comma_separated, is_embedded
from kit.http.server import raise_file_limit
from services.bucket_proxy.proxy import BucketProxy

_CHILDREN: Final = (*programs.SERVERS, *programs.SERVICES)
_PORTS: Final = (*_CHILDREN, programs.BUCKET_PROXY)


class EmbeddedSystem:
    """All of Saccade on this machine, in child processes of this one."""

    def __init__(
        self,
        data: Path,
        host: str,
        port: int,
        report: Callable[[str], None],
        modal: WorkersOnModal | None = None,
        *,
        attached: bool = False,
    ) -> None:
        """Lock the data folder, bind the port, and end processes of an earlier run.

        ``report`` is called with messages for the user. With ``modal``, workers run on Modal instead of here.
        ``attached``: the system ends with the command that started it, so that others must not rely on it.

        Raises:
            Failure: the folder, the host or the port cannot be used.
        """
        _check_host(host)
        self._host = host
        self._modal = modal
        self._folder = DataFolder(data)
        try:
            self._listener = ports.listen_or_fail(host, port)
        except BaseException:
            self._folder.release()
            raise
        try:
            address = f"[{host}]" if ":" in host else host
            self.url = f"http://{address}:{self._listener.getsockname()[1]}"
            self._folder.announce(self.url, attached=attached)
            #: The events are a window of another system; None: they are this one's own.
            self.window = ImportedWindow.of(self._folder.path)
            leftover_processes.end_leftovers(self._folder.path, report)
        except BaseException:
            self._listener.close()
            self._folder.release()
            raise
        self._supervisor = Supervisor(self._folder, child_environment(), report)
        self._origin: Origin | None = None
        self._bucket_proxy: BucketProxy | None = None

    @property
    def data(self) -> Path:
        """The data folder."""
        return self._folder.path

    @property
    def on_modal(self) -> bool:
        """Whether workers run on Modal."""
        return self._modal is not None

    def process_ids(self) -> dict[str, int]:
        """Return the process ids of the running children, by name."""
        return {name: number for name in _CHILDREN if (number := self._supervisor.process_id(name))}

    async def start(self) -> None:
        """Start everything and return when it is ready.

        Raises:
            Failure: a child does not become ready.
        """
        chosen = ports.choose_ports(_PORTS, self._folder.ports(), self._host)
        self._folder.save_ports(chosen)
        servers = [programs.nats_server(self._folder, chosen["nats-server"])]
        if self._modal is None or self._modal.bucket is None:
            servers.append(programs.rclone(self._folder, chosen["rclone"]))
            self._bucket_proxy = BucketProxy(f"http://{ports.LOOPBACK}:{chosen['rclone']}")
            await self._bucket_proxy.start(ports.listen(self._host, chosen[programs.BUCKET_PROXY]))
        raise_file_limit()  # each connection whose request line has not arrived is an open file
        self._origin = Origin()
        self._origin.start(self._listener)
        await self._supervisor.start(servers)
        settings = CommandSettings()
        embedded = is_embedded(settings.api_keys_file, comma_separated(settings.allowed_hosts))
        environment = programs.service_environment(self._folder, chosen, self._host, embedded=embedded)
        if self._modal:
            environment |= self._modal.environment(self.data, self.url, settings.allowed_hosts)
        if self.window:
            environment |= {"SACCADE_READ_ONLY": "true", "SACCADE_LOCAL_TENANT": self.window.tenant}
        routed = {name: partial(self._origin.connect, name) for name in get_args(RoutedService)}
        await self._supervisor.start(
            [programs.service(name, chosen[name], environment, routed.get(name)) for name in self._services()]
        )

    def _services(self) -> tuple[str, ...]:
        """Return the services; without a dispatcher, nothing is launched for the jobs of an imported window."""
        return tuple(name for name in programs.SERVICES if self.window is None or name != "dispatcher")

    async def stop(self) -> None:
        """Stop everything, the servers last; running jobs resume at the next start."""
        try:
            if self._origin:
                self._origin.stop()
                await asyncio.gather(self._stop_workers(), self._supervisor.stop(("gateway", "notifier")))
                self._origin.close()
            if self._bucket_proxy:
                await self._bucket_proxy.close()
            await self._supervisor.stop(programs.SERVERS)
        finally:
            await self._supervisor.close()
            self._listener.close()
            self._folder.release()

    def kill(self) -> None:
        """Kill every child and worker at once."""
        self._supervisor.kill()
        leftover_processes.end_workers(self._folder.path, grace_s=0.0)

    async def _stop_workers(self) -> None:
        """Stop the dispatcher, which could restart workers, and then the workers; they publish ``job.interrupted``."""
        await self._supervisor.stop(("dispatcher",))
        await asyncio.to_thread(leftover_processes.end_workers, self._folder.path)


def _check_host(host: str) -> None:
    """Check that the address can be used: loopback, or one of this machine with API keys.

    Raises:
        Failure: it cannot.
    """
    if host == "localhost":
        return
    try:
        address = ipaddress.ip_address(host)
    except ValueError as error:
        raise Failure(
            f"{host} is not an IP address.", code="usage", hint="Try --host 127.0.0.1", exit_code=USAGE
        ) from error
    if address.is_loopback:
        return
    if address.is_unspecified:
        raise Failure(
            f"--host {host} is not an address that clients can call.",
            code="usage",
            hint="Use one of this machine's addresses, for example --host 192.168.1.5",
            exit_code=USAGE,
        )
    if CommandSettings().api_keys_file is None:
        raise Failure(
            f"--host {host} can be reached by others, but no API keys are set.",
            code="keys_required",
            hint="Create one with `saccade key --file FILE`, and set SACCADE_API_KEYS_FILE to that file.",
        )
