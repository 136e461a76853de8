"""Workers on Modal, by Modal's own client: spawned, asked about now and then, cancelled. Decides nothing."""

from __future__ import annotations

import asyncio
import builtins
import json
import logging
import time
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import modal
import modal.config
import modal.exception

from contracts.assignment import Assignment
from contracts.errors import ErrorCode, SaccadeError
from contracts.gpu_ladder import gpu_ladder, gpu_name
from contracts.ids import is_id
from contracts.launch import ARGUMENT_BYTES, Launch
from contracts.workload import Compute
from kit.bucket import Bucket
from modal_workers.deployment import CACHE, FUNCTION, app_name
from services.dispatcher.executors.executor import (
    CallBacklog,
    CallState,
    CallStatus,
    LaunchFailed,
    Throttled,
    status_of_exit,
)
from services.dispatcher.executors.modal_failures import REFUSALS, class_names, status_of_error
from services.dispatcher.executors.modal_rates import usd_per_s
from services.dispatcher.executors.run_access import RunAccess
from services.dispatcher.settings import ModalSettings

log = logging.getLogger(__name__)

#: Calls whose last answer is remembered.
_REMEMBERED: Final = 10_000
#: A worker that unwinds has ended by then, with its children (modal_workers.runtime.modal_entry); most take a moment.
_CANCEL_S: Final = 3.0
_TERMINATE_S: Final = 5.0
#: A request that Modal has not answered after so long never will be; its client would wait for some of them for ever.
_ANSWER_S: Final = 10.0
#: What Modal is given before a launch that it did not take is tried again, as it says no time of its own.
_LATER_S: Final = 15.0
_CPU: Final = "cpu"
#: How Modal's ids of calls begin.
_CALL: Final = "fc-"


@asynccontextmanager
async def open_modal_executor(
    settings: ModalSettings, bucket: Bucket, access: RunAccess
) -> AsyncIterator[ModalExecutor]:
    """Open an executor with a client of its own, which is closed last.

    Raises:
        LaunchFailed: there is no token, or Modal does not take it.
    """
    # Plain values both ways: no pickle that a worker made is ever loaded here. And a throttled call is ours to repeat.
    modal.config.config.override_locally("payload_format", "cbor")
    modal.config.config.override_locally("max_throttle_wait", "0")
    try:
        client = await modal.Client.from_env.aio()
    except modal.exception.AuthError as error:
        raise LaunchFailed(REFUSALS["AuthError"]) from error
    try:
        yield ModalExecutor(client, settings, bucket, access)
    finally:
        await client.close.aio()


class ModalExecutor:
    """An ``Executor`` whose call id is Modal's function call id."""

    name = "modal"
    queues = True

    def __init__(self, client: modal.Client, settings: ModalSettings, bucket: Bucket, access: RunAccess) -> None:
        """Use a client that somebody else closes."""
        self.client = client
        self.settings = settings
        self.access = access
        self._bucket = bucket
        self._functions: dict[tuple[str, str], modal.Function[Any, Any, Any]] = {}
        #: When a call was asked about last, by the event loop's clock, and the answer.
        self._answers: OrderedDict[str, tuple[float, CallStatus]] = OrderedDict()
        self._cancelled: OrderedDict[str, None] = OrderedDict()

    def devices(self, compute: Compute, gpu: str | None) -> tuple[str, ...]:
        """Name the rungs: the user's GPU alone, the ladder from where this environment begins, or the CPU.

        Raises:
            SaccadeError: INVALID_PARAMETER, for a GPU that there is not.
        """
        if gpu:
            return (gpu_name(gpu),)
        return gpu_ladder(compute.gpus, self.settings.environment) if compute.gpus else (_CPU,)

    async def launch(self, assignment: Assignment, compute: Compute) -> str:
        """Spawn a call and give its id. Whether a call that got no answer came to be, its worker's claim settles.

        Raises:
            LaunchFailed: Modal refuses it.
            Throttled: Modal takes no more for now, or does not answer.
            SaccadeError: STORAGE_UNAVAILABLE.
        """
        lifetime_s = self.settings.queue_s + compute.start_timeout_s + compute.timeout_s
        launch = Launch(assignment=assignment, bus=self.access.of(assignment, lifetime_s))
        argument = launch.argument()
        if len(json.dumps(argument)) > ARGUMENT_BYTES:
            key = self._bucket.key("scratch", assignment.job_id, "runs", assignment.run_id, "assignment.json")
            await self._bucket.put(key, assignment.model_dump_json().encode())
            argument = Launch(assignment_key=key, bus=launch.bus).argument()
        kind = (assignment.workload, assignment.device)
        try:
            async with _answered(_ANSWER_S):
                call = await self._function(*kind).spawn.aio(argument)
        except Exception as error:
            self._functions.pop(kind, None)  # deployed anew, perhaps
            raise _not_launched(error) from error
        return str(call.object_id)

    async def poll(self, call_id: str, *, urgent: bool = False) -> CallStatus:
        """Tell how a call is, by an answer that may be ``poll_s`` old unless it is urgent.

        Raises:
            SaccadeError: SERVICE_UNAVAILABLE, when Modal does not answer.
        """
        if not call_id.startswith(_CALL):
            return CallStatus(CallState.ENDED, None, "No such call.", "lost")
        known = self._answers.get(call_id)
        if known and (known[1].state is CallState.ENDED or (not urgent and self._is_fresh(known[0]))):
            return known[1]
        status = await self._ask(call_id, 0.0)
        self._remember(call_id, status)
        return status

    async def backlog(self, workload: str, device: str) -> CallBacklog | None:
        """Ask how many inputs wait for workers of this kind; None when Modal does not say."""
        try:
            async with _answered(_ANSWER_S):
                stats = await self._function(workload, device).get_current_stats.aio()
        except Exception as error:  # noqa: BLE001 - it only informs
            log.warning("Modal does not tell what waits: %s", type(error).__name__)
            return None
        return CallBacklog(inputs=stats.backlog, workers=stats.num_total_runners)

    async def cancel(self, call_id: str) -> None:
        """Cancel a call and wait for its end; one that does not unwind in time loses its container.

        Raises:
            SaccadeError: SERVICE_UNAVAILABLE, when Modal does not answer.
        """
        known = self._answers.get(call_id)
        if not call_id.startswith(_CALL) or (known and known[1].state is CallState.ENDED):
            return
        self._cancelled[call_id] = None
        while len(self._cancelled) > _REMEMBERED:
            self._cancelled.popitem(last=False)
        for by_force, patience_s in ((False, _CANCEL_S), (True, _TERMINATE_S)):
            try:
                call = modal.FunctionCall.from_id(call_id, client=self.client)
                async with _answered(_ANSWER_S):
                    await call.cancel.aio(terminate_containers=by_force)
            except Exception as error:
                if (status := status_of_error(error, cancelled=True)) is None:
                    raise _away(error) from error
                self._remember(call_id, status)
                return
            status = await self._ask(call_id, patience_s)
            if status.state is CallState.ENDED:
                self._remember(call_id, status)
                return
        log.error("call %s was cancelled and does not end", call_id)

    async def find(self, run_id: str) -> str | None:  # noqa: ARG002 - the protocol's
        """Give None: Modal finds calls by nothing but their id. The worker itself names its call when it begins."""
        return None

    async def rates(self) -> dict[str, float]:
        """Ask Modal's billing for the price of a second on each device, in USD; empty where it tells none."""
        try:
            async with _answered(_ANSWER_S):
                told = await modal.Workspace.from_context(client=self.client).billing.rates.aio()
        except Exception as error:  # noqa: BLE001 - there is a dated table
            log.info("Modal's billing tells no prices: %s", type(error).__name__)
            return {}
        return usd_per_s(dict(told.items()))

    async def clear_cache(self, job_id: str) -> None:
        """Remove a job's folder on the cache's volume.

        Raises:
            SaccadeError: SERVICE_UNAVAILABLE, when Modal does not answer, or will not.
        """
        if not is_id(job_id, "job"):
            return
        environment = self.settings.modal_environment or None
        volume = modal.Volume.from_name(CACHE.name, environment_name=environment, client=self.client)
        try:
            async with _answered(_ANSWER_S):
                await volume.remove_file.aio(job_id, recursive=True)
        except (FileNotFoundError, modal.exception.NotFoundError):
            return  # no folder, or no volume: no stage of a pipeline ever put anything there
        except Exception as error:
            raise _away(error) from error

    async def close(self) -> None:
        """Let go of handles; the calls go on."""
        self._functions.clear()

    def _function(self, workload: str, device: str) -> modal.Function[Any, Any, Any]:
        """Give the handle of a worker's function on a device; each device has containers of its own."""
        kind = (workload, device)
        if kind not in self._functions:
            environment = self.settings.modal_environment or None
            base: modal.Function[Any, Any, Any] = modal.Function.from_name(
                app_name(workload), FUNCTION, environment_name=environment, client=self.client
            )
            self._functions[kind] = base if device == _CPU else base.with_options(gpu=device)
        return self._functions[kind]

    async def _ask(self, call_id: str, patience_s: float) -> CallStatus:
        """Ask Modal for a call's outcome, at most so long.

        Raises:
            SaccadeError: SERVICE_UNAVAILABLE.
        """
        try:
            call: modal.FunctionCall[Any] = modal.FunctionCall.from_id(call_id, client=self.client)
            async with _answered(patience_s + _ANSWER_S):
                result = await call.get.aio(timeout=patience_s)
        except builtins.TimeoutError:
            return CallStatus(CallState.RUNNING)
        except (Exception, modal.exception.InputCancellation) as error:
            status = status_of_error(error, cancelled=call_id in self._cancelled)
            if status is None:
                raise _away(error) from error
            return status
        if not isinstance(result, dict) or not isinstance(result.get("exit_code"), int):
            return CallStatus(CallState.ENDED, None, "The worker's function gave no answer of ours.", "broken")
        return status_of_exit(result["exit_code"], out_of_memory=bool(result.get("out_of_memory")))

    def _is_fresh(self, asked_at: float) -> bool:
        return time.monotonic() - asked_at < self.settings.poll_s

    def _remember(self, call_id: str, status: CallStatus) -> None:
        self._answers[call_id] = (time.monotonic(), status)
        self._answers.move_to_end(call_id)
        while len(self._answers) > _REMEMBERED:
            self._answers.popitem(last=False)


@asynccontextmanager
async def _answered(within_s: float) -> AsyncIterator[None]:
    """Give up on a request that gets no answer.

    Raises:
        modal.exception.ConnectionError: it has got none. A ``TimeoutError`` is Modal's own word, and goes on.
    """
    limit = asyncio.timeout(within_s)
    try:
        async with limit:
            yield
    except builtins.TimeoutError as error:
        if limit.expired():
            raise modal.exception.ConnectionError(f"no answer within {within_s:.0f} s") from error
        raise


def _not_launched(error: Exception) -> LaunchFailed:
    names = class_names(error)
    if sentence := next((REFUSALS[name] for name in names if name in REFUSALS), None):
        return LaunchFailed(sentence)
    if "ResourceExhaustedError" in names:
        return Throttled("Modal takes no more calls for now.", _LATER_S)
    return Throttled(f"Modal does not answer ({names[0]}).", _LATER_S)


def _away(error: BaseException) -> SaccadeError:
    return SaccadeError(ErrorCode.SERVICE_UNAVAILABLE, f"Modal does not answer: {type(error).__name__}.")
