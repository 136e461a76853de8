"""One container: its preemption, the outcome of its inputs, and the procedures that its runtime calls."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import signal
import time
from collections.abc import Callable
from typing import Protocol

from google.protobuf.empty_pb2 import Empty
from grpclib import GRPCError, Status
from modal_proto import api_pb2

from tests.modal_loopback.exchange import answers
from tests.modal_loopback.functions import Call, Function
from tests.modal_loopback.listener import Listener
from tests.modal_loopback.program import Program, Site
from tests.modal_loopback.records import ContainerRecord

#: The client gives a heartbeat 15.1 s and sends the next 15 s after the last: held this long, none is ever missing.
_HEARTBEAT_S = 14.8


class Fate(enum.Enum):
    """Outcome of an input whose container ends without its result."""

    FAILURE = "failure"  # as when the kernel kills for memory, or the code ends the process
    REQUEUE = "requeue"  # preempted, or Modal runs it again elsewhere: the same input, the same call
    INTERNAL_FAILURE = "internal_failure"  # lost, and Modal says so


class Scheduler(Protocol):
    """Callbacks of a container to its scheduler."""

    start_delay_s: float

    def finish(self, call: Call, result: api_pb2.GenericResult, data_format: int) -> None:
        """Set the result of a call."""

    def requeue(self, call: Call) -> None:
        """Run a call's input again in another container."""

    def ended(self, container: Container) -> None:
        """Release what the container held."""


class Container:
    """One container of a function, from its grant until its last process has ended."""

    def __init__(
        self,
        site: Site,
        scheduler: Scheduler,
        function: Function,
        definition: api_pb2.Function,
        record: ContainerRecord,
    ) -> None:
        """Prepare a container; `run` starts it."""
        self.function, self.definition, self.record = function, definition, record
        self.active: dict[str, Call] = {}
        self.stopping = False
        self.fate = Fate.FAILURE
        self.wake = asyncio.Event()
        self._site, self._scheduler = site, scheduler
        self._program = Program(site, function, definition, record)
        self._killed = False
        self._took = 0
        self._ready = False
        self._startup_timed_out = False
        self._crash: api_pb2.GenericResult | None = None
        self._cancelled: list[str] = []
        self._cancellation = asyncio.Event()
        self._revoked = asyncio.Event()
        self._timers: dict[str, asyncio.TimerHandle] = {}

    @property
    def room(self) -> int:
        """Number of further inputs that it can take."""
        if self.stopping:
            return 0
        if self.definition.single_use_containers:
            return 1 if self._took == 0 else 0
        return max(0, max(1, self.definition.max_concurrent_inputs) - len(self.active))

    # Preemption and cancellation.

    def cancel(self, call: Call) -> None:
        """Report a cancelled input to the runtime, with its heartbeat."""
        self._cancelled.append(call.input_id)
        self._cancellation.set()

    def kill(self, fate: Fate | None = None) -> None:
        """Kill all its processes at once."""
        self.fate = fate or self.fate
        self._killed = self.stopping = True
        self._signal(signal.SIGTERM)

    def preempt(self, grace_s: float) -> None:
        """Interrupt its program, then kill all processes after a grace period."""
        self.fate, self.stopping = Fate.REQUEUE, True
        self._signal(signal.SIGINT)
        self._after("grace", grace_s, self.kill)

    def drain(self) -> None:
        """Let it end after its current inputs."""
        self.stopping = True
        self._revoked.set()
        self.wake.set()

    def _signal(self, number: signal.Signals) -> None:
        self._revoked.set()
        self._program.send(number)

    def _after(self, name: str, delay_s: float, what: Callable[[], None]) -> None:
        self._forget_timer(name)
        self._timers[name] = asyncio.get_running_loop().call_later(delay_s, what)

    def _forget_timer(self, name: str) -> None:
        if timer := self._timers.pop(name, None):
            timer.cancel()

    # Life cycle.

    async def run(self) -> None:
        """Start it, wait until it ends, and settle its remaining inputs."""
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._scheduler.start_delay_s):
                    await self._revoked.wait()
            if not self.stopping:
                self.record.exit_code = await self._serve()
            else:
                self.record.exit_code = 128 + signal.SIGKILL
        finally:
            for timer in list(self._timers):
                self._forget_timer(timer)
            self._scheduler.ended(self)
        self._settle(self.record.exit_code)

    async def _serve(self) -> int:
        handlers = {**answers(self), **answers(self._site.blobs)}
        listener = Listener(self._site.exchange.service(self.record.id, handlers))
        await listener.listen_at(self._program.socket)
        try:
            await self._program.start()
            limit_s = self.definition.startup_timeout_secs or self.definition.timeout_secs
            if limit_s:
                self._after("startup", limit_s, self._start_took_too_long)
            if self._killed:
                self._program.send(signal.SIGTERM)
            return await self._program.wait()
        finally:
            await listener.end()
            await asyncio.to_thread(self._program.remove)

    def _start_took_too_long(self) -> None:
        self._startup_timed_out = True
        self.kill()

    def _settle(self, code: int) -> None:
        status = api_pb2.GenericResult
        ended = self._crash or status(
            status=status.GENERIC_STATUS_FAILURE, exception=f"Runner failed with exit code: {code}"
        )
        for call in list(self.active.values()):
            if call.cancelled:
                ended = status(status=status.GENERIC_STATUS_TERMINATED, exception="Input was cancelled")
                self._scheduler.finish(call, ended, api_pb2.DATA_FORMAT_UNSPECIFIED)
            elif self.fate is Fate.REQUEUE:
                self._scheduler.requeue(call)
            elif self.fate is Fate.INTERNAL_FAILURE:
                ended = status(status=status.GENERIC_STATUS_INTERNAL_FAILURE, exception="The container was lost")
                self._scheduler.finish(call, ended, api_pb2.DATA_FORMAT_UNSPECIFIED)
            else:
                self._scheduler.finish(call, ended, api_pb2.DATA_FORMAT_UNSPECIFIED)
        self.active.clear()
        if self._startup_timed_out:
            ended = status(status=status.GENERIC_STATUS_TIMEOUT, exception="The container's start took too long")
        elif self._ready or (self.stopping and self._crash is None):
            return
        # It never requested an input: no other container of this function would.
        while self.function.queue:
            self._scheduler.finish(self.function.queue.popleft(), ended, api_pb2.DATA_FORMAT_UNSPECIFIED)

    # The runtime's procedures.

    async def container_hello(self, _: Empty) -> Empty:
        """Record that the runtime has started."""
        return Empty()

    async def container_heartbeat(self, _: api_pb2.ContainerHeartbeatRequest) -> api_pb2.ContainerHeartbeatResponse:
        """Wait for a cancellation, for as long as the runtime waits."""
        try:
            async with asyncio.timeout(_HEARTBEAT_S):
                await self._cancellation.wait()
        except TimeoutError:
            return api_pb2.ContainerHeartbeatResponse()
        self._cancellation.clear()
        inputs, self._cancelled = self._cancelled, []
        return api_pb2.ContainerHeartbeatResponse(cancel_input_event=api_pb2.CancelInputEvent(input_ids=inputs))

    async def function_get_inputs(self, _: api_pb2.FunctionGetInputsRequest) -> api_pb2.FunctionGetInputsResponse:
        """Hand out the next input, or end the container when none has come for a while."""
        self._ready = True
        self._forget_timer("startup")
        idle_s = self.definition.task_idle_timeout_secs or self.definition.autoscaler_settings.scaledown_window
        idle_until = time.monotonic() + (idle_s or self._site.idle_s)
        while not self.function.queue or self.stopping:
            left_s = idle_until - time.monotonic()
            if not self.active and (self.stopping or left_s <= 0):
                self.stopping = True
                return api_pb2.FunctionGetInputsResponse(inputs=[api_pb2.FunctionGetInputsItem(kill_switch=True)])
            self.wake.clear()
            try:
                async with asyncio.timeout(max(left_s, 0.05)):
                    await self.wake.wait()
            except TimeoutError:
                continue
        call = self.function.queue.popleft()
        self._took += 1
        call.container, call.started_s = self, time.time()
        self.active[call.input_id] = call
        self.record.calls.append(call.id)
        if self.definition.timeout_secs:
            self._after(call.input_id, self.definition.timeout_secs, lambda: self._took_too_long(call))
        return api_pb2.FunctionGetInputsResponse(
            inputs=[
                api_pb2.FunctionGetInputsItem(
                    input_id=call.input_id,
                    input=call.item,
                    function_call_id=call.id,
                    function_call_invocation_type=call.invocation,
                    retry_count=call.attempt,
                )
            ]
        )

    def _took_too_long(self, call: Call) -> None:
        if self.active.pop(call.input_id, None):
            status, limit_s = api_pb2.GenericResult, self.definition.timeout_secs
            text = f"Task's current input in {call.input_id} hit its timeout of {limit_s}s"
            result = status(status=status.GENERIC_STATUS_TIMEOUT, exception=text)
            self._scheduler.finish(call, result, api_pb2.DATA_FORMAT_UNSPECIFIED)
            self.kill(Fate.REQUEUE)  # other inputs in it are not the cause

    async def function_put_outputs(self, request: api_pb2.FunctionPutOutputsRequest) -> Empty:
        """Accept results of inputs that this container still holds."""
        for output in request.outputs:
            call = self.active.get(output.input_id)
            if call is None or (self._is_interrupted(output.result) and not call.cancelled):
                continue
            self._forget_timer(call.input_id)
            del self.active[call.input_id]
            self._scheduler.finish(call, output.result, output.data_format)
        return Empty()

    def _is_interrupted(self, result: api_pb2.GenericResult) -> bool:
        """Return whether a preempted runtime reports that it cancelled its input itself; the input then runs again."""
        return self.fate is Fate.REQUEUE and result.status == api_pb2.GenericResult.GENERIC_STATUS_TERMINATED

    async def task_result(self, request: api_pb2.TaskResultRequest) -> Empty:
        """Accept the runtime's report that the code cannot be imported."""
        self._crash = request.result
        return Empty()

    async def volume_commit(self, request: api_pb2.VolumeCommitRequest) -> api_pb2.VolumeCommitResponse:
        """Commit the changes in the container's copy of a volume."""
        mounted = self._program.mounted.get(request.volume_id)
        if mounted is None:
            raise GRPCError(Status.NOT_FOUND, f"{request.volume_id} is not mounted")
        mounted.commit()
        return api_pb2.VolumeCommitResponse(skip_reload=False)
