"""Scheduling: calls wait in their function's queue until capacity lets a container start."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter

from google.protobuf.empty_pb2 import Empty
from grpclib import GRPCError, Status
from modal_proto import api_pb2

from tests.modal_loopback.container import Container, Site
from tests.modal_loopback.functions import Call, Function
from tests.modal_loopback.records import CPU, Capacity, ContainerRecord


class Scheduling:
    """Procedures of a caller of functions, and the assignment of containers."""

    def __init__(self, site: Site, capacity: Capacity) -> None:
        """Create a scheduler without calls."""
        self.calls: dict[str, Call] = {}
        self.records: list[ContainerRecord] = []
        self.containers: dict[str, Container] = {}
        self.start_delay_s = 0.0
        self._site, self._capacity = site, capacity
        self._used: Counter[str] = Counter()
        self._running: set[asyncio.Task[None]] = set()
        self._numbers = itertools.count(1)
        self._stopped = False

    # Capacity.

    def schedule(self, function: Function) -> None:
        """Start the containers that a function's queue needs, within the capacity."""
        while len(function.queue) > sum(container.room for container in function.containers):
            definitions = function.definitions()
            limit = definitions[0].concurrency_limit or definitions[0].autoscaler_settings.max_containers
            granted = next((each for each in definitions if self._is_free(each)), None)
            if self._stopped or granted is None or (limit and len(function.containers) >= limit):
                return
            self._start(function, granted)

    def schedule_all(self) -> None:
        """Schedule again after capacity was released."""
        for function in list(self._site.deployment.functions.values()):
            if function.queue:
                self.schedule(function)

    def _is_free(self, definition: api_pb2.Function) -> bool:
        gpu, count = _needs(definition)
        limit = self._capacity[gpu]
        return limit is None or self._used[gpu] + count <= limit

    def _start(self, function: Function, definition: api_pb2.Function) -> None:
        gpu, count = _needs(definition)
        self._used[gpu] += count
        app = self._site.deployment.apps[function.app_id]
        record = ContainerRecord(
            f"ta-{next(self._numbers):06d}", app.name, definition.function_name, "" if gpu == CPU else gpu
        )
        container = Container(self._site, self, function, definition, record)
        self.records.append(record)
        self.containers[record.id] = container
        function.containers.add(container)
        task = self._site.exchange.start(container.run())
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    def ended(self, container: Container) -> None:
        """Release a container's capacity to waiting calls, after its own inputs are settled."""
        gpu, count = _needs(container.definition)
        self._used[gpu] -= count
        container.function.containers.discard(container)
        self.containers.pop(container.record.id, None)
        asyncio.get_running_loop().call_soon(self.schedule_all)

    def finish(self, call: Call, result: api_pb2.GenericResult, data_format: int) -> None:
        """Set the result of a call, unless it has one."""
        if call.output is None:
            call.output = api_pb2.FunctionGetOutputsItem(
                result=result,
                input_id=call.input_id,
                data_format=data_format,
                task_id=call.container.record.id if call.container else "",
                input_started_at=call.started_s,
                output_created_at=time.time(),
                retry_count=call.attempt,
            )
            call.ended.set()

    def requeue(self, call: Call) -> None:
        """Put a call's input first in the queue: it has waited already."""
        call.container = None
        call.function.queue.appendleft(call)
        self._arrived(call.function)

    def _arrived(self, function: Function) -> None:
        for container in function.containers:
            container.wake.set()
        self.schedule(function)

    async def stop(self) -> None:
        """Kill every container and wait until all that was in them has ended."""
        self._stopped = True
        for container in list(self.containers.values()):
            container.kill()
        if self._running:
            await asyncio.wait(self._running, timeout=20)

    # The caller's procedures.

    async def function_map(self, request: api_pb2.FunctionMapRequest) -> api_pb2.FunctionMapResponse:
        """Accept a call with its input."""
        function = self._function(request.function_id)
        if len(request.pipelined_inputs) != 1:
            raise GRPCError(Status.UNIMPLEMENTED, "the loopback takes one input a call")
        number = next(self._numbers)
        item = request.pipelined_inputs[0]
        call = Call(f"fc-{number:06d}", f"in-{number:06d}", function, request.function_call_invocation_type, item.input)
        self.calls[call.id] = call
        function.queue.append(call)
        self._arrived(function)
        taken = api_pb2.FunctionPutInputsResponseItem(idx=item.idx, input_id=call.input_id, input_jwt=call.input_id)
        return api_pb2.FunctionMapResponse(
            function_call_id=call.id, pipelined_inputs=[taken], function_call_jwt=call.id, max_inputs_outstanding=1000
        )

    async def function_get_outputs(
        self, request: api_pb2.FunctionGetOutputsRequest
    ) -> api_pb2.FunctionGetOutputsResponse:
        """Return a call's result, or wait as long as requested: a client with an early reply would poll at once."""
        call = self.calls.get(request.function_call_id)
        try:
            async with asyncio.timeout(max(0.0, request.timeout)):
                await (call.ended.wait() if call else asyncio.sleep(request.timeout + 1))
        except TimeoutError:
            pass
        if request.function_call_id not in self.calls or call is None:
            return api_pb2.FunctionGetOutputsResponse(num_unfinished_inputs=0)
        if call.output is None:
            return api_pb2.FunctionGetOutputsResponse(num_unfinished_inputs=1)
        return api_pb2.FunctionGetOutputsResponse(outputs=[call.output])

    async def function_call_cancel(self, request: api_pb2.FunctionCallCancelRequest) -> Empty:
        """Cancel a call: at once while it waits, else as the container can."""
        call = self.calls.get(request.function_call_id)
        if call is None:
            raise GRPCError(Status.NOT_FOUND, f"no call {request.function_call_id}")
        if call.output is not None:
            return Empty()
        call.cancelled = True
        if call in call.function.queue:
            call.function.queue.remove(call)
            status = api_pb2.GenericResult
            result = status(status=status.GENERIC_STATUS_TERMINATED, exception="Input was cancelled")
            self.finish(call, result, api_pb2.DATA_FORMAT_UNSPECIFIED)
        elif call.container and request.terminate_containers:
            call.container.kill()
        elif call.container:
            call.container.cancel(call)
        return Empty()

    async def function_call_from_id(
        self, request: api_pb2.FunctionCallFromIdRequest
    ) -> api_pb2.FunctionCallFromIdResponse:
        """Describe a call."""
        if request.function_call_id not in self.calls:
            raise GRPCError(Status.NOT_FOUND, f"no call {request.function_call_id}")
        return api_pb2.FunctionCallFromIdResponse(function_call_id=request.function_call_id, num_inputs=1)

    async def function_get_current_stats(
        self, request: api_pb2.FunctionGetCurrentStatsRequest
    ) -> api_pb2.FunctionStats:
        """Count what waits and what runs."""
        function = self._function(request.function_id)
        return api_pb2.FunctionStats(
            backlog=len(function.queue),
            num_total_tasks=len(function.containers),
            num_running_inputs=sum(len(container.active) for container in function.containers),
            input_headroom=sum(container.room for container in function.containers),
        )

    def _function(self, function_id: str) -> Function:
        if function_id not in self._site.deployment.functions:
            raise GRPCError(Status.NOT_FOUND, f"no function {function_id}")
        return self._site.deployment.functions[function_id]


def _needs(definition: api_pb2.Function) -> tuple[str, int]:
    gpu = definition.resources.gpu_config
    return (gpu.gpu_type, max(1, gpu.count)) if gpu.gpu_type else (CPU, 1)
