"""Layer between gRPC and the handlers: records, injected faults, repeated and unimplemented requests."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.message import Message
from grpclib import GRPCError, Status
from modal_proto import api_grpc, api_pb2

from kit.tasks import end

Handler = Callable[[Any], Awaitable[Message]]

#: Read-only procedures: a cached reply to a repeated request would be stale.
_ALWAYS_FRESH = frozenset({"FunctionGetOutputs", "FunctionGetCurrentStats", "ContainerHeartbeat", "FunctionGetInputs"})


@dataclass(frozen=True)
class Request:
    """One request as it arrived.

    Args:
        who: "client", or the id of the container that sent it.
        rpc: Name of the remote procedure.
        message: What was sent.
        idempotency_key: The same over all attempts of one request; empty if none came.
        token_id: Id of the token that came with it.
    """

    who: str
    rpc: str
    message: Message
    idempotency_key: str = ""
    token_id: str = ""


@dataclass
class Fault:
    """Injected fault of the next requests of one kind: refused, or executed with the reply lost."""

    times: int
    status: Status
    retry_after_s: float | None = None
    takes_effect: bool = False

    def error(self) -> GRPCError:
        """Return the error that the client gets."""
        policy = [] if self.retry_after_s is None else [api_pb2.RPCRetryPolicy(retry_after_secs=self.retry_after_s)]
        return GRPCError(self.status, "injected by the test", details=policy or None)


def answers(part: object) -> dict[str, Handler]:
    """List a part's handlers by the procedure that each answers.

    A handler is a public coroutine method with the procedure's name in snake case.
    """
    found = {}
    for name in dir(type(part)):
        if not name.startswith("_") and asyncio.iscoroutinefunction(getattr(type(part), name)):
            rpc = "".join(word.capitalize() for word in name.split("_"))
            if rpc in api_grpc.ModalClientBase.__abstractmethods__:
                found[rpc] = getattr(part, name)
    return found


@dataclass
class Exchange:
    """All requests to a control plane and its containers."""

    requests: list[Request] = field(default_factory=list)
    unimplemented: set[str] = field(default_factory=set)
    errors: list[BaseException] = field(default_factory=list)
    faults: dict[str, list[Fault]] = field(default_factory=dict)
    _answered: dict[tuple[str, str], asyncio.Future[Message]] = field(default_factory=dict)
    _tasks: set[asyncio.Task[Any]] = field(default_factory=set)

    def service(
        self, who: str, handlers: Mapping[str, Handler], tokens: Collection[tuple[str, str]] = ()
    ) -> api_grpc.ModalClientBase:
        """Return a gRPC service of handlers; every other procedure fails with UNIMPLEMENTED and is recorded.

        Args:
            who: Who dials it.
            handlers: By the procedure's name.
            tokens: Ids and secrets of which each request must carry one; none where the socket itself tells who it is.
        """

        def method(rpc: str) -> Callable[[Any, Any], Awaitable[None]]:
            async def serve(_: Any, stream: Any) -> None:
                message = await stream.recv_message()
                metadata = stream.metadata or {}
                key = str(metadata.get("x-idempotency-key", ""))
                token = str(metadata.get("x-modal-token-id")), str(metadata.get("x-modal-token-secret"))
                self.requests.append(Request(who, rpc, message, key, token[0]))
                if tokens and token not in tokens:
                    raise GRPCError(Status.UNAUTHENTICATED, "Token missing or invalid")
                if rpc not in handlers:
                    self.missing(rpc if who == "client" else f"container/{rpc}")
                await stream.send_message(await self._reply(rpc, key, handlers[rpc], message))

            return serve

        methods = {rpc: method(rpc) for rpc in api_grpc.ModalClientBase.__abstractmethods__}
        return type("Service", (api_grpc.ModalClientBase,), methods)()

    def missing(self, what: str) -> None:
        """Record an unimplemented procedure and reject it."""
        self.unimplemented.add(what)
        raise GRPCError(Status.UNIMPLEMENTED, f"the loopback has no {what}")

    async def _reply(self, rpc: str, key: str, handler: Handler, message: Message) -> Message:
        fault = self._next_fault(rpc)
        if fault and not fault.takes_effect:
            raise fault.error()
        if key and rpc not in _ALWAYS_FRESH:
            # A request that is repeated because its reply was lost takes effect once.
            if (rpc, key) not in self._answered:
                self._answered[rpc, key] = asyncio.ensure_future(self._handle(handler, message))
            answered = self._answered[rpc, key]
            try:
                reply = await asyncio.shield(answered)
            except GRPCError:
                self._answered.pop((rpc, key), None)
                raise
        else:
            reply = await self._handle(handler, message)
        if fault:
            raise fault.error()
        return reply

    async def _handle(self, handler: Handler, message: Message) -> Message:
        try:
            return await handler(message)
        except GRPCError:
            raise
        except Exception as error:
            self.errors.append(error)
            raise GRPCError(Status.FAILED_PRECONDITION, f"the loopback failed: {error!r}") from error

    def _next_fault(self, rpc: str) -> Fault | None:
        waiting = self.faults.get(rpc, [])
        if not waiting:
            return None
        fault = waiting[0]
        fault.times -= 1
        if fault.times <= 0:
            waiting.pop(0)
        return fault

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a background task; its exception is kept for the test."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.errors.append(error)

    def unhandled(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Keep exceptions of loop callbacks, except those of a client that disconnects."""
        error = context.get("exception")
        if error is None:
            loop.default_exception_handler(context)
        elif not isinstance(error, ConnectionError | GRPCError):
            self.errors.append(error)

    async def stop(self) -> None:
        """Cancel the background tasks."""
        tasks = list(self._tasks)
        await end(*tasks)
