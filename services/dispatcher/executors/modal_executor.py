"""Modal executor: spawns, polls and cancels workers with Modal's own client. The only module that imports ``modal``."""

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
from contracts.caller_account import CallerAccount
from contracts.errors import ErrorCode, SaccadeError
from contracts.gpu_ladder import gpu_ladder, gpu_name
from contracts.ids import is_id
from contracts.launch import ARGUMENT_BYTES, Launch
from contracts.workload import Compute
from kit.bucket import Bucket
from kit.counts import count
from modal_workers.catalog import workloads
from modal_workers.deployment import CACHE, app_name, function_name, warm_device
from services.dispatcher.costs.attempt_cost import CPU
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

#: Number of calls whose last status is cached.
_CACHED_CALLS: Final = 10_000
#: Time for a cancelled worker and its children to end (modal_workers.runtime.modal_entry), then after a forced end.
_CANCEL_S: Final = 3.0
_TERMINATE_S: Final = 5.0
#: Timeout of a request; Modal's client has none for some requests.
_REQUEST_TIMEOUT_S: Final = 10.0
#: Delay before a rejected launch is tried again; Modal names none.
_THROTTLED_S: Final = 15.0
#: Prefix of Modal's call ids.
_CALL_PREFIX: Final = "fc-"


@asynccontextmanager
async def open_modal_executor(
    settings: ModalSettings, bucket: Bucket, access: RunAccess, account: CallerAccount | None = None
) -> AsyncIterator[ModalExecutor]:
    """Open an executor with its own client, which is closed last; on another account than the operator's if given.

    Raises:
        LaunchFailed: the API token is missing, or Modal rejects it.
    """
    # Plain values in both directions: a pickle made by a worker must never be loaded here. Throttling is handled by the
    # dispatcher's own retries.
    modal.config.config.override_locally("payload_format", "cbor")
    modal.config.config.override_locally("max_throttle_wait", "0")
    try:
        client = await (modal.Client.from_env.aio() if account is None else _client_of(account))
    except modal.exception.AuthError as error:
        raise LaunchFailed(REFUSALS["AuthError"]) from error
    try:
        yield ModalExecutor(client, settings, bucket, access, account)
    finally:
        await client.close.aio()


class ModalExecutor:
    """Executor whose call id is Modal's function call id."""

    name = "modal"
    queues = True

    def __init__(
        self,
        client: modal.Client,
        settings: ModalSettings,
        bucket: Bucket,
        access: RunAccess,
        account: CallerAccount | None = None,
    ) -> None:
        """Use a client that the caller closes; ``account`` may name the worker's app and function otherwise."""
        self._named = (account and account.app_name, account and account.function_name)
        #: Modal environment of the workers; that of the operator's account is not the caller's.
        self._environment = None if account else settings.modal_environment or None
        self.client = client
        self.settings = settings
        self.access = access
        self._bucket = bucket
        self._functions: dict[tuple[str, str], modal.Function[Any, Any, Any]] = {}
        #: Last status of each call, with its time by the monotonic clock.
        self._statuses: OrderedDict[str, tuple[float, CallStatus]] = OrderedDict()
        self._cancelled: OrderedDict[str, None] = OrderedDict()

    def devices(self, compute: Compute, gpu: str | None) -> tuple[str, ...]:
        """Return the devices: the user's GPU alone, the ladder of this environment, or the CPU.

        Raises:
            SaccadeError: INVALID_PARAMETER, for an unknown GPU.
        """
        if gpu:
            return (gpu_name(gpu),)
        return gpu_ladder(compute.gpus, self.settings.environment) if compute.gpus else (CPU,)

    async def launch(self, assignment: Assignment, compute: Compute) -> str:
        """Spawn a call and return its id. If the request got no answer, a worker may exist; its claim then fails.

        Raises:
            LaunchFailed: Modal rejects the launch.
            Throttled: Modal accepts no launches for now, or does not answer; or the bucket takes no assignment.
        """
        lifetime_s = self.settings.queue_s + compute.start_timeout_s + compute.timeout_s
        launch = Launch(assignment=assignment, bus=self.access.of(assignment, lifetime_s))
        argument = launch.argument()
        if len(json.dumps(argument)) > ARGUMENT_BYTES:
            key = self._bucket.key("scratch", assignment.job_id, "runs", assignment.run_id, "assignment.json")
            try:
                await self._bucket.put(key, assignment.model_dump_json().encode())
            except SaccadeError as error:  # nothing was launched, so that must not count as an attempt
                raise Throttled(f"The bucket does not store assignments: {error.message}", _THROTTLED_S) from error
            argument = Launch(assignment_key=key, bus=launch.bus).argument()
        kind = (assignment.workload, assignment.device)
        try:
            async with _request_timeout(_REQUEST_TIMEOUT_S):
                call = await self._function(*kind).spawn.aio(argument)
        except Exception as error:
            self._functions.pop(kind, None)  # the function may have been deployed again
            raise _launch_error(error) from error
        return str(call.object_id)

    async def poll(self, call_id: str, *, urgent: bool = False) -> CallStatus:
        """Return the status of a call, which may be ``poll_s`` old unless ``urgent``.

        Raises:
            SaccadeError: SERVICE_UNAVAILABLE, when Modal does not answer.
        """
        if not call_id.startswith(_CALL_PREFIX):
            return CallStatus(CallState.ENDED, None, "No such call.", "lost")
        known = self._statuses.get(call_id)
        if known and (known[1].state is CallState.ENDED or (not urgent and self._is_fresh(known[0]))):
            return known[1]
        status = await self._request_status(call_id, 0.0)
        self._cache(call_id, status)
        return status

    async def backlog(self, workload: str, device: str) -> CallBacklog | None:
        """Return the number of waiting inputs and of workers of this kind; None when Modal does not answer."""
        try:
            async with _request_timeout(_REQUEST_TIMEOUT_S):
                stats = await self._function(workload, device).get_current_stats.aio()
        except Exception as error:  # noqa: BLE001 - informational only
            log.warning("could not read the backlog from Modal: %s", type(error).__name__)
            return None
        return CallBacklog(inputs=stats.backlog, workers=stats.num_total_runners)

    async def cancel(self, call_id: str) -> None:
        """Cancel a call and wait for its end; after a timeout its container is terminated.

        Raises:
            SaccadeError: SERVICE_UNAVAILABLE, when Modal does not answer.
        """
        known = self._statuses.get(call_id)
        if not call_id.startswith(_CALL_PREFIX) or (known and known[1].state is CallState.ENDED):
            return
        self._cancelled[call_id] = None
        while len(self._cancelled) > _CACHED_CALLS:
            self._cancelled.popitem(last=False)
        for by_force, timeout_s in ((False, _CANCEL_S), (True, _TERMINATE_S)):
            try:
                call = modal.FunctionCall.from_id(call_id, client=self.client)
                async with _request_timeout(_REQUEST_TIMEOUT_S):
                    await call.cancel.aio(terminate_containers=by_force)
            except Exception as error:
                if (status := status_of_error(error, cancelled=True)) is None:
                    raise _unavailable(error) from error
                self._cache(call_id, status)
                return
            status = await self._request_status(call_id, timeout_s)
            if status.state is CallState.ENDED:
                self._cache(call_id, status)
                return
        log.error("call %s was cancelled but does not end", call_id)

    async def find(self, run_id: str) -> str | None:  # noqa: ARG002 - required by the protocol
        """Return None: Modal finds calls only by their id. The worker publishes its call id when it starts."""
        return None

    async def rates(self) -> dict[str, float]:
        """Return the price of one second on each device from Modal's billing, in USD; empty if there is no answer."""
        try:
            async with _request_timeout(_REQUEST_TIMEOUT_S):
                rates = await modal.Workspace.from_context(client=self.client).billing.rates.aio()
        except Exception as error:  # noqa: BLE001 - the dated table is used instead
            log.info("could not read prices from Modal's billing: %s", type(error).__name__)
            return {}
        return usd_per_s(dict(rates.items()))

    async def clear_cache(self, job_id: str) -> None:
        """Remove a job's folder from the cache volume.

        Raises:
            SaccadeError: SERVICE_UNAVAILABLE, when Modal does not answer or rejects the request.
        """
        if not is_id(job_id, "job"):
            return
        environment = self.settings.modal_environment or None
        volume = modal.Volume.from_name(CACHE.name, environment_name=environment, client=self.client)
        try:
            async with _request_timeout(_REQUEST_TIMEOUT_S):
                await volume.remove_file.aio(job_id, recursive=True)
        except (FileNotFoundError, modal.exception.NotFoundError):
            return  # no folder or no volume: no stage of a pipeline has stored anything
        except Exception as error:
            raise _unavailable(error) from error

    async def close(self) -> None:
        """Release the handles; the calls continue."""
        self._functions.clear()

    def _function(self, workload: str, device: str) -> modal.Function[Any, Any, Any]:
        """Return the handle of a worker's function on a device; each device has separate containers."""
        kind = (workload, device)
        if kind not in self._functions:
            base: modal.Function[Any, Any, Any] = modal.Function.from_name(
                self._named[0] or app_name(workload),
                self._named[1] or function_name(workload),
                environment_name=self._environment,
                client=self.client,
            )
            declared = workloads().get(workload)
            # Options make another pool of containers: the warm one belongs to the function as it was deployed.
            as_deployed = {CPU, warm_device(declared) if declared else None}
            self._functions[kind] = base if device in as_deployed else base.with_options(gpu=device)
        return self._functions[kind]

    async def _request_status(self, call_id: str, timeout_s: float) -> CallStatus:
        """Request the result of a call, and wait for it for ``timeout_s``.

        Raises:
            SaccadeError: SERVICE_UNAVAILABLE.
        """
        try:
            call: modal.FunctionCall[Any] = modal.FunctionCall.from_id(call_id, client=self.client)
            async with _request_timeout(timeout_s + _REQUEST_TIMEOUT_S):
                result = await call.get.aio(timeout=timeout_s)
        except builtins.TimeoutError:
            return CallStatus(CallState.RUNNING)
        except (Exception, modal.exception.InputCancellation) as error:
            status = status_of_error(error, cancelled=call_id in self._cancelled)
            if status is None:
                raise _unavailable(error) from error
            return status
        if not isinstance(result, dict) or not isinstance(result.get("exit_code"), int):
            return CallStatus(CallState.ENDED, None, "The worker's function returned an unexpected value.", "broken")
        return status_of_exit(result["exit_code"], out_of_memory=bool(result.get("out_of_memory")))

    def _is_fresh(self, asked_at: float) -> bool:
        return time.monotonic() - asked_at < self.settings.poll_s

    def _cache(self, call_id: str, status: CallStatus) -> None:
        self._statuses[call_id] = (time.monotonic(), status)
        self._statuses.move_to_end(call_id)
        while len(self._statuses) > _CACHED_CALLS:
            self._statuses.popitem(last=False)


@asynccontextmanager
async def _request_timeout(within_s: float) -> AsyncIterator[None]:
    """Limit the time of a request.

    Raises:
        modal.exception.ConnectionError: there was no answer in time. A ``TimeoutError`` raised by Modal is passed on.
    """
    limit = asyncio.timeout(within_s)
    try:
        async with limit:
            yield
    except builtins.TimeoutError as error:
        if limit.expired():
            raise modal.exception.ConnectionError(f"no answer within {within_s:.0f} s") from error
        raise


async def _client_of(account: CallerAccount) -> modal.Client:
    token_id, token_secret = account.token_id.get_secret_value(), account.token_secret.get_secret_value()
    return await modal.Client.from_credentials.aio(token_id, token_secret)


def _launch_error(error: Exception) -> LaunchFailed:
    names = class_names(error)
    count("saccade_modal_errors", names[0])
    if message := next((REFUSALS[name] for name in names if name in REFUSALS), None):
        return LaunchFailed(message)
    if "ResourceExhaustedError" in names:
        return Throttled("Modal accepts no more calls for now.", _THROTTLED_S)
    return Throttled(f"Modal does not answer ({names[0]}).", _THROTTLED_S)


def _unavailable(error: BaseException) -> SaccadeError:
    count("saccade_modal_errors", type(error).__name__)
    return SaccadeError(ErrorCode.SERVICE_UNAVAILABLE, f"Modal does not answer: {type(error).__name__}.")
