"""API of the stand-in for tests: it runs on its own thread and is used from any other."""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from grpclib import Status
from modal.client import Client, _Client

from tests.modal_loopback.blobs import BlobStore
from tests.modal_loopback.container import Container, Fate, Site
from tests.modal_loopback.deployment import Deployment
from tests.modal_loopback.exchange import Exchange, Fault, Request, answers
from tests.modal_loopback.interpreter import make_interpreter
from tests.modal_loopback.listener import Listener
from tests.modal_loopback.records import AskedFunction, Capacity, ContainerRecord, LogLine
from tests.modal_loopback.scheduling import Scheduling
from tests.modal_loopback.starter import Starter
from tests.modal_loopback.uploaded_files import UploadedFiles
from tests.modal_loopback.volumes import Volumes
from tests.modal_loopback.workspace import Workspace

_ANSWER_S = 30.0
_Answer = TypeVar("_Answer")


class Loopback:
    """Control plane on 127.0.0.1 for Modal's own client, and the containers that it starts.

    Attributes:
        environment: Variables with which a client, in this process or another, dials it.
        secrets: Values of each secret by its name, set by the test before the deploy.
        capacity: Number of available GPUs of each type; "CPU" stands for containers without one.
        rates: Prices that the account's billing tells, by its own keys; with none the token may not ask.
        unimplemented: What was asked for and is not there; a test asserts that it is empty.
    """

    def __init__(self, folder: Path, *, environment: str = "main", idle_s: float = 1.0) -> None:
        """Prepare a loopback; `running` starts it.

        Args:
            folder: Short enough for the sockets in it (a Unix socket's path has at most 107 characters).
            environment: Name of the Modal environment that clients use.
            idle_s: How long a container without work stays if its function does not say.
        """
        self._exchange = Exchange()
        self._loop = asyncio.new_event_loop()
        self._loop.set_exception_handler(self._exchange.unhandled)
        self._blobs = BlobStore()
        self._volumes = Volumes(folder / "volumes")
        files = UploadedFiles(folder / "files")
        self._deployment = Deployment(self._blobs, self._volumes, files, self._exchange.missing, self._replaced)
        self.capacity = Capacity(lambda: self._loop.call_soon_threadsafe(self._scheduling.schedule_all))
        self._workspace = Workspace()
        self.rates = self._workspace.rates
        self.logs: list[LogLine] = []
        python = make_interpreter(folder / "python")
        self._starter = Starter(python, folder)
        parts = (self._exchange, self._deployment, self._blobs, self.logs)
        site = Site(folder, python, self._starter, environment, idle_s, *parts)
        self._scheduling = Scheduling(site, self.capacity)
        self._listener: Listener | None = None
        self._token = ("ak-loopback", "as-loopback")
        #: Tokens that are accepted, id and secret; each request tells whose it is.
        self.tokens = {self._token}
        self.secrets = self._deployment.secret_values
        self.environment = {
            "MODAL_TOKEN_ID": self._token[0],
            "MODAL_TOKEN_SECRET": self._token[1],
            "MODAL_ENVIRONMENT": environment,
            "MODAL_CONFIG_PATH": str(folder / "no-modal.toml"),
        }

    # Records.

    @property
    def functions(self) -> list[AskedFunction]:
        """Resources of each deployed function, in the order of deploys."""
        return list(self._deployment.asked)

    def function(self, app: str, name: str = "run") -> AskedFunction:
        """Return the resources of a function's last deploy; KeyError if it is not deployed."""
        for asked in reversed(self.functions):
            if (asked.app, asked.name) == (app, name):
                return asked
        raise KeyError(f"no function {app}/{name} is deployed")

    @property
    def requests(self) -> list[Request]:
        """Every request, in the order of arrival."""
        return list(self._exchange.requests)

    def sent(self, rpc: str) -> list[Any]:
        """Return the messages of one procedure."""
        return [request.message for request in self.requests if request.rpc == rpc]

    @property
    def containers(self) -> list[ContainerRecord]:
        """Every container, in the order in which they were granted."""
        return list(self._scheduling.records)

    @property
    def unimplemented(self) -> set[str]:
        """Names of unimplemented procedures that were called; a container's as "container/NAME"."""
        return set(self._exchange.unimplemented)

    def volume(self, name: str) -> Path:
        """Return the folder of a volume's committed files; a test may write there. KeyError if there is none."""
        return self._volumes.folder(name)

    def log(self, container: str | None = None) -> str:
        """Return the output of all containers, or of one."""
        return "\n".join(line.text for line in list(self.logs) if container in (None, line.container))

    # Faults.

    @property
    def start_delay_s(self) -> float:
        """Delay from the grant of a container to the start of its program."""
        return self._scheduling.start_delay_s

    @start_delay_s.setter
    def start_delay_s(self, delay_s: float) -> None:
        self._scheduling.start_delay_s = delay_s

    def preempt(self, which: str, grace_s: float = 10.0) -> None:
        """Preempt the container of a call, or a container: SIGINT, a grace, SIGKILL; its input runs again in another.

        Args:
            which: Id of a call that runs, or of a container.
            grace_s: After it everything in the container is killed.

        Raises:
            KeyError: Nothing runs under that id.
        """
        self._on_loop(lambda: self._container(which).preempt(grace_s))

    def kill(self, which: str, result: str = "failure") -> None:
        """Kill the container of a call, or a container, with all its processes, without a message.

        Args:
            which: Id of a call that runs, or of a container.
            result: "failure": as when memory ran out, exit code 137. "requeue": Modal runs the input again.
                "internal_failure": Modal says that it lost the input.

        Raises:
            KeyError: Nothing runs under that id.
        """
        self._on_loop(lambda: self._container(which).kill(Fate(result)))

    def lose_reply(self, rpc: str, times: int = 1) -> None:
        """Execute the next requests of one kind but lose their replies (the client sees UNAVAILABLE)."""
        self._add_fault(rpc, Fault(times, Status.UNAVAILABLE, takes_effect=True))

    def fail(self, rpc: str, status: Status, times: int = 1, retry_policy: float | None = None) -> None:
        """Refuse the next requests of one kind, without effect.

        Args:
            rpc: Name of the procedure.
            status: What the client gets.
            times: How many requests, each attempt counted; a later call for the same procedure comes after.
            retry_policy: Seconds after which the server tells the client to try again; None: it says nothing.
        """
        self._add_fault(rpc, Fault(times, status, retry_after_s=retry_policy))

    def heal(self) -> None:
        """Remove the pending faults."""
        self._on_loop(self._exchange.faults.clear)

    def forget(self, call_id: str) -> None:
        """Expire a call's result; KeyError if there is no such call."""
        self._on_loop(lambda: self._scheduling.calls.pop(call_id))

    def _add_fault(self, rpc: str, fault: Fault) -> None:
        self._on_loop(lambda: self._exchange.faults.setdefault(rpc, []).append(fault))

    def _container(self, which: str) -> Container:
        call = self._scheduling.calls.get(which)
        found = call.container if call and call.output is None else self._scheduling.containers.get(which)
        if found is None or found.record.ended:
            raise KeyError(f"nothing runs as {which}")
        return found

    def _replaced(self, function: Any) -> None:
        for container in list(function.containers):
            container.drain()

    # Life cycle.

    def _on_loop(self, what: Callable[[], _Answer]) -> _Answer:
        async def run() -> _Answer:
            return what()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(_ANSWER_S)

    async def _start(self) -> None:
        await self._blobs.start()
        parts = (self._deployment, self._scheduling, self._blobs, self._volumes, self._workspace)
        handlers = {rpc: handler for part in parts for rpc, handler in answers(part).items()}
        service = self._exchange.service("client", handlers, self.tokens)
        self._listener = Listener(service)
        self.environment["MODAL_SERVER_URL"] = f"http://127.0.0.1:{await self._listener.listen()}"

    async def _stop(self) -> None:
        await self._scheduling.stop()
        await self._exchange.stop()
        await self._starter.stop()
        if self._listener:
            await self._listener.end()
        await self._blobs.stop()
        await self._loop.shutdown_default_executor()

    def serve(self) -> Iterator[Loopback]:
        """Serve from its own thread until the generator resumes; then raise errors from inside."""
        thread = threading.Thread(target=self._loop.run_forever, name="modal-loopback")
        thread.start()
        try:
            asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(_ANSWER_S)
            yield self
        finally:
            try:
                asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(_ANSWER_S)
            finally:
                self._loop.call_soon_threadsafe(self._loop.stop)
                thread.join(timeout=30)
                self._loop.close()
        if self._exchange.errors:
            raise BaseExceptionGroup("the loopback failed", self._exchange.errors)


@contextlib.contextmanager
def running(folder: Path, *, environment: str = "main", idle_s: float = 1.0) -> Iterator[Loopback]:
    """Run a loopback; at the end kill all its containers and raise errors from inside.

    Args:
        folder: Exists; the test's own. Containers live in a folder with a shorter name, which is removed at the end.
        environment: Name of the Modal environment that clients use.
        idle_s: How long a container without work stays if its function does not say.
    """
    with tempfile.TemporaryDirectory(prefix="loopback-", ignore_cleanup_errors=True) as short:
        loopback = Loopback(Path(short), environment=environment, idle_s=idle_s)
        loopback.environment["MODAL_CONFIG_PATH"] = str(folder / "no-modal.toml")
        yield from loopback.serve()


@contextlib.contextmanager
def dialled(loopback: Loopback) -> Iterator[Loopback]:
    """Connect this process's client to a loopback; close the client at the end.

    Settings of Modal's client that were there before, or that anything sets meanwhile, are those of nobody else.
    """
    before = _settings()
    _close_client()
    _set(loopback.environment)
    try:
        yield loopback
    finally:
        _set(before)
        _close_client()


def _settings() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith("MODAL_")}  # noqa: TID251


def _set(settings: dict[str, str]) -> None:
    for name in _settings():
        del os.environ[name]  # noqa: TID251
    os.environ.update(settings)  # noqa: TID251


def _close_client() -> None:
    """Close the client that this process made by itself, if it did; in a thread, for a test's loop may run here."""
    if _Client._client_from_env is not None:
        thread = threading.Thread(target=lambda: Client.from_env().close())
        thread.start()
        thread.join(timeout=30)
    _Client._client_from_env = None
