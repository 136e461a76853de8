"""Benchmark of the dispatcher with Modal: ``job.submitted`` to the spawn RPC, memory and CPU time, 500 jobs in flight.

The dispatcher runs in a separate process with Modal's own client; nats-server and the bucket are real. Modal is
simulated with the parts of tests/modal_loopback, and the workers by publishing their events. Both times are read from
the clock of one machine: when nats-server stored the event, and when FunctionMap arrived.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, TypeVar

from bench.needs import needs

needs("modal", "nats-server", "rclone")

import nkeys
import psutil
from google.protobuf.empty_pb2 import Empty
from modal._serialization import deserialize_data_format, serialize_data_format
from modal_proto import api_pb2

from contracts.assignment import Assignment
from contracts.events.base import EventData, encode
from contracts.events.job import Cost, JobProgressed, JobStarted, JobSubmitted, JobSucceeded
from contracts.ids import new_id
from contracts.job import Job
from contracts.launch import Launch
from contracts.limits import WORKER_HEARTBEAT_S
from contracts.streams import EVENTS, aggregate
from kit.bus.connection import connect, declare
from kit.bus.event_store import EventStore
from kit.settings import inherited_environment
from kit.tasks import end
from services.dispatcher.jobs.unfinished_jobs import fold_all
from tests.harness.runtime.executor_environment import bucket_secret
from tests.harness.servers.embedded import HOST, ROOT, EmbeddedNats, EmbeddedS3, free_port
from tests.modal_loopback.exchange import Exchange, answers
from tests.modal_loopback.functions import Function
from tests.modal_loopback.listener import Listener
from tests.modal_loopback.workspace import Workspace

_TENANT: Final = "bench"
_TOKEN: Final = ("ak-bench", "as-bench")
#: Jobs that the simulated gateway and workers process concurrently.
_AT_ONCE: Final = 32
_WAIT_S: Final = 120.0
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


@dataclass
class Call:
    """One call that Modal accepted: its job, its arrival by the wall clock, and whether it has ended."""

    assignment: Assignment
    arrived_at_s: float
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    is_told: bool = False  # the dispatcher has received its result


class Calls:
    """Simulated Modal server: one function without a GPU, whose calls run until the benchmark ends them."""

    def __init__(self, answer_s: float) -> None:
        self.of_job: dict[str, Call] = {}
        self.taken = 0
        self._answer_s = answer_s
        self._calls: dict[str, Call] = {}
        self._news = asyncio.Event()
        definition = api_pb2.Function(
            module_name="app",
            function_name="run",
            function_type=api_pb2.Function.FUNCTION_TYPE_FUNCTION,
            supported_input_formats=[api_pb2.DATA_FORMAT_CBOR],
            supported_output_formats=[api_pb2.DATA_FORMAT_CBOR],
        )
        self._function = Function("fu-000001", "ap-000001", [definition])

    async def launched(self, jobs: Iterable[str]) -> None:
        """Wait until each of these jobs has been launched."""
        async with asyncio.timeout(_WAIT_S):
            while not self.of_job.keys() >= set(jobs):
                self._news.clear()
                await self._news.wait()

    async def seen_off(self, jobs: Iterable[str]) -> float:
        """Wait until the dispatcher has received the result of each of these jobs' calls; return the seconds."""
        start = time.monotonic()
        left = [self.of_job[job_id] for job_id in jobs]
        async with asyncio.timeout(_WAIT_S):
            while left := [call for call in left if not call.is_told]:
                await asyncio.sleep(0.1)
        return time.monotonic() - start

    async def function_get(self, _: api_pb2.FunctionGetRequest) -> api_pb2.FunctionGetResponse:
        """Return the description of the function."""
        await asyncio.sleep(self._answer_s)
        function = self._function
        return api_pb2.FunctionGetResponse(
            function_id=function.id, function=function.data(), handle_metadata=function.metadata()
        )

    async def function_map(self, request: api_pb2.FunctionMapRequest) -> api_pb2.FunctionMapResponse:
        """Accept a call and record its arrival."""
        arrived_at_s = time.time()
        self.taken += 1
        call_id, (item,) = f"fc-{self.taken:06d}", request.pipelined_inputs
        (argument,), _ = deserialize_data_format(item.input.args, item.input.data_format, None)
        launch = Launch.model_validate(argument)
        assert launch.assignment
        call = self._calls[call_id] = Call(launch.assignment, arrived_at_s)
        self.of_job[launch.assignment.job_id] = call
        self._news.set()
        await asyncio.sleep(self._answer_s)
        taken = api_pb2.FunctionPutInputsResponseItem(idx=item.idx, input_id=call_id, input_jwt=call_id)
        return api_pb2.FunctionMapResponse(
            function_call_id=call_id, pipelined_inputs=[taken], function_call_jwt=call_id, max_inputs_outstanding=1000
        )

    async def function_get_outputs(
        self, request: api_pb2.FunctionGetOutputsRequest
    ) -> api_pb2.FunctionGetOutputsResponse:
        """Return whether a call has ended; wait for the requested time."""
        await asyncio.sleep(self._answer_s)
        call = self._calls[request.function_call_id]
        try:
            async with asyncio.timeout(max(0.0, request.timeout)):
                await call.ended.wait()
        except TimeoutError:
            return api_pb2.FunctionGetOutputsResponse(num_unfinished_inputs=1)
        call.is_told = True
        value = serialize_data_format({"exit_code": 0}, api_pb2.DATA_FORMAT_CBOR)
        result = api_pb2.GenericResult(status=api_pb2.GenericResult.GENERIC_STATUS_SUCCESS, data=value)
        output = api_pb2.FunctionGetOutputsItem(
            result=result, input_id=request.function_call_id, data_format=api_pb2.DATA_FORMAT_CBOR
        )
        return api_pb2.FunctionGetOutputsResponse(outputs=[output])

    async def function_call_cancel(self, request: api_pb2.FunctionCallCancelRequest) -> Empty:
        """End a call."""
        self._calls[request.function_call_id].ended.set()
        return Empty()


@dataclass
class Bench:
    """Simulated gateway and workers, and measurements of the dispatcher's process."""

    store: EventStore
    calls: Calls
    dispatcher: psutil.Process
    submitted: int = 0

    @property
    def memory_mb(self) -> float:
        """Return the dispatcher's resident memory."""
        return float(self.dispatcher.memory_info().rss) / 1e6

    @property
    def cpu_s(self) -> float:
        """Return the CPU time that it has used."""
        return float(sum(self.dispatcher.cpu_times()[:2]))

    async def publish(self, job_id: str, data: EventData, after: int | None, source: str) -> int:
        """Publish an event of a job."""
        message = encode(data, tenant=_TENANT, subject_id=job_id, source=source)
        return await self.store.publish(message, after=after, among=aggregate(_TENANT, "job", job_id))

    async def submit(self, job_id: str) -> int:
        """Submit a job as the gateway does; return the sequence of its event."""
        self.submitted += 1
        data = JobSubmitted(
            workload="scripted",
            workload_version="1",
            inputs={},
            params={"script": []},
            deadline=datetime.now(UTC) + timedelta(hours=1),
        )
        return await self.publish(job_id, data, 0, "/gateway")

    async def one_by_one(self, jobs: list[str]) -> list[float]:
        """Submit each job after the launch of the previous one; return the ms from stored to FunctionMap."""
        sequences = []
        for job_id in jobs:
            sequences.append(await self.submit(job_id))
            await self.calls.launched([job_id])
            await asyncio.sleep(0.02)  # so that the dispatcher has finished the previous job
        return await self.overheads_ms(jobs, sequences)

    async def at_once(self, jobs: list[str]) -> tuple[list[float], float]:
        """Submit all jobs at full speed; return the ms from stored to FunctionMap, and launches per second."""
        begun_at_s = time.time()
        sequences = await _each(jobs, self.submit)
        await self.calls.launched(jobs)
        taken_s = max(self.calls.of_job[job_id].arrived_at_s for job_id in jobs) - begun_at_s
        return await self.overheads_ms(jobs, sequences), len(jobs) / taken_s

    async def overheads_ms(self, jobs: list[str], sequences: list[int]) -> list[float]:
        """Return the ms from the time at which nats-server stored each event to its FunctionMap."""
        jetstream = self.store.client.jetstream()

        async def stored_at_s(sequence: int) -> float:
            stored = (await jetstream.get_msg(EVENTS.name, sequence, direct=True)).time
            assert stored
            return stored.timestamp()

        stored = await _each(sequences, stored_at_s)
        arrived = [self.calls.of_job[job_id].arrived_at_s for job_id in jobs]
        return [(there - then) * 1e3 for there, then in zip(arrived, stored, strict=True)]

    async def claim(self, job_id: str) -> None:
        """Claim a job as its worker does, after the dispatcher has recorded its call."""
        job = await self._job(job_id)
        while job.call_id is None:
            await asyncio.sleep(0.05)
            job = await self._job(job_id)
        run = self.calls.of_job[job_id].assignment
        assert job.is_current_run(run.attempt, run.run_id), "a launch that does not count"
        started = JobStarted(
            attempt=run.attempt, run_id=run.run_id, device=run.device, worker="bench", call_id=job.call_id
        )
        await self.publish(job_id, started, job.sequence, f"/worker/{run.run_id}")

    async def succeed(self, job_id: str) -> None:
        """Publish the success of a job as its worker does, and end its call."""
        call = self.calls.of_job[job_id]
        run, job = call.assignment, await self._job(job_id)
        done = JobSucceeded(
            attempt=run.attempt,
            run_id=run.run_id,
            result={},
            manifest_key="none",
            duration_s=1,
            cost=Cost(device=run.device, seconds=1, usd=run.usd_per_s),
        )
        await self.publish(job_id, done, job.sequence, f"/worker/{run.run_id}")
        call.ended.set()

    async def beat(self, jobs: list[str]) -> None:
        """Publish progress of each worker every ``WORKER_HEARTBEAT_S``, evenly distributed, until cancelled."""
        start, published = time.monotonic(), 0
        while True:
            for job_id in jobs:
                run = self.calls.of_job[job_id].assignment
                progress = JobProgressed(
                    attempt=run.attempt, run_id=run.run_id, stage="first", fraction=0.5, stage_fraction=0.5
                )
                message = encode(progress, tenant=_TENANT, subject_id=job_id, source=f"/worker/{run.run_id}")
                await self.store.client.publish(message.subject, message.body)
                published += 1
                await asyncio.sleep(max(0.0, start + published * WORKER_HEARTBEAT_S / len(jobs) - time.monotonic()))

    async def share_of_a_core(self, seconds: float) -> float:
        """Return the dispatcher's CPU usage over some seconds."""
        cpu_s, start = self.cpu_s, time.monotonic()
        await asyncio.sleep(seconds)
        return (self.cpu_s - cpu_s) / (time.monotonic() - start)

    async def _job(self, job_id: str) -> Job:
        job = fold_all(await self.store.load(aggregate(_TENANT, "job", job_id)))
        assert job
        return job


async def measure_round(bench: Bench, number: int, jobs: int, single: int) -> None:
    """Submit ``jobs`` at once, run them, submit more jobs meanwhile, end all."""
    burst, singles = ([new_id("job") for _ in range(count)] for count in (jobs, single))
    cpu_s = bench.cpu_s
    at_once, rate = await bench.at_once(burst)
    launch_cpu_s = bench.cpu_s - cpu_s
    print(f"round {number}")
    _row(f"{jobs} at once ({rate:.0f} /s)", at_once)
    await _each(burst, bench.claim)
    beating = asyncio.create_task(bench.beat(burst))
    await asyncio.sleep(3)
    share = await bench.share_of_a_core(6)
    memory_mb = bench.memory_mb
    _row(f"one after the other, {jobs} running", await bench.one_by_one(singles))
    await _each(singles, bench.claim)
    await end(beating)
    await _each(burst + singles, bench.succeed)
    seen_off_s = await bench.calls.seen_off(burst + singles)
    await asyncio.sleep(1)
    spent_s = bench.cpu_s - cpu_s
    print(f"  processor   {launch_cpu_s / jobs * 1e3:.1f} ms a job until its launch, ", end="")
    print(f"{spent_s / (jobs + single) * 1e3:.1f} ms in all; {share:.1%} of a core while {jobs} run")
    print(f"  seen off    {seen_off_s:.1f} s after the last job's end Modal has been asked about every call")
    print(f"  memory      {memory_mb:.1f} MB with {jobs} running, {bench.memory_mb:.1f} MB when all have ended")


async def measure(rounds: int, jobs: int, single: int, answer_s: float) -> None:
    async with _opened(jobs + single, answer_s) as bench:
        await asyncio.sleep(2)
        rest_mb, rest = bench.memory_mb, await bench.share_of_a_core(4)
        print(f"memory at rest {rest_mb:.1f} MB, {rest:.1%} of a core; Modal answers after {answer_s * 1e3:.0f} ms")
        alone = [new_id("job") for _ in range(single + 1)]
        await bench.one_by_one(alone[:1])  # the first launch also looks up the function
        _row("one after the other, none running", await bench.one_by_one(alone[1:]))
        await _each(alone, bench.claim)
        await _each(alone, bench.succeed)
        await bench.calls.seen_off(alone)
        print(f"  memory      {bench.memory_mb:.1f} MB when all have ended")
        for number in range(1, rounds + 1):
            await measure_round(bench, number, jobs, single)
        print(f"{bench.submitted} jobs, {bench.calls.taken} launches")


@asynccontextmanager
async def _opened(slots: int, answer_s: float) -> AsyncIterator[Bench]:
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for name in ("nats", "s3"):
            (folder / name).mkdir()
        nats = stack.enter_context(EmbeddedNats(folder / "nats", sync_always=True))
        s3 = stack.enter_context(EmbeddedS3(folder / "s3"))
        client = await connect(nats.settings, "bench")
        stack.push_async_callback(client.close)
        await declare(client)
        calls, exchange = Calls(answer_s), Exchange()
        listener = Listener(exchange.service("client", answers(calls) | answers(Workspace()), _TOKEN))
        port = await listener.listen()
        stack.push_async_callback(listener.end)
        (folder / "workers.seed").write_bytes(nkeys.encode_seed(bytes(range(32)), nkeys.PREFIX_BYTE_ACCOUNT))
        environment = bucket_secret(s3.settings) | {
            "NATS_URL": nats.url,
            "WORKER_CATALOG": "tests.workers",
            "DISPATCHER_EXECUTOR": "modal",
            "DISPATCHER_PORT": str(free_port()),
            "DISPATCHER_DATA_DIR": str(folder / "dispatcher"),
            "DISPATCHER_WORKER_BUS_URL": "https://gateway.example",
            "DISPATCHER_WORKER_SEED_FILE": str(folder / "workers.seed"),
            "MODAL_SERVER_URL": f"http://{HOST}:{port}",
            "MODAL_TOKEN_ID": _TOKEN[0],
            "MODAL_TOKEN_SECRET": _TOKEN[1],
            "MODAL_CONFIG_PATH": str(folder / "no-modal.toml"),
            **{f"DISPATCHER_{limit}": str(slots) for limit in ("SLOTS", "TENANT_CONCURRENCY", "WORKLOAD_CONCURRENCY")},
        }
        log = stack.enter_context((folder / "dispatcher.log").open("wb"))
        command = [sys.executable, "-m", "services.dispatcher"]
        environment |= inherited_environment()
        process = stack.enter_context(subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log))
        stack.callback(process.terminate)
        await _leading(process, folder / "dispatcher.log")
        try:
            yield Bench(EventStore(client), calls, psutil.Process(process.pid))
        except TimeoutError:
            print((folder / "dispatcher.log").read_text()[-4000:], f"exit code: {process.poll()}", file=sys.stderr)
            raise
        assert not exchange.unimplemented, exchange.unimplemented
        assert not exchange.errors, exchange.errors


async def _leading(process: subprocess.Popen[bytes], log: Path) -> None:
    async with asyncio.timeout(_WAIT_S):
        while "leading" not in log.read_text():
            assert process.poll() is None, log.read_text()
            await asyncio.sleep(0.1)


async def _each(items: Iterable[_Item], work: Callable[[_Item], Awaitable[_Result]]) -> list[_Result]:
    """Apply a function to each item, ``_AT_ONCE`` at a time; return the results in order."""
    room = asyncio.Semaphore(_AT_ONCE)

    async def one(item: _Item) -> _Result:
        async with room:
            return await work(item)

    return list(await asyncio.gather(*(one(item) for item in items)))


def _row(name: str, values_ms: list[float]) -> None:
    ordered = sorted(values_ms)
    p50, p99 = (ordered[math.ceil(share * len(ordered)) - 1] for share in (0.5, 0.99))
    print(f"  {name:36} p50 {p50:8.1f} ms  p99 {p99:8.1f} ms  max {ordered[-1]:8.1f} ms", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=500, help="in flight")
    parser.add_argument("--single", type=int, default=50, help="submitted one after the other")
    parser.add_argument("--answer-ms", type=float, default=0.0, help="how long Modal takes to answer")
    arguments = parser.parse_args()
    asyncio.run(measure(arguments.rounds, arguments.jobs, arguments.single, arguments.answer_ms / 1e3))


if __name__ == "__main__":
    main()
