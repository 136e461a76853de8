"""Factory of the executor that the operator chose. Modal's client is imported only if it is used."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

from kit.auth.bus_token import BusTokenIssuer
from kit.bucket import Bucket
from kit.http.server import CannotServeError
from kit.settings import NatsSettings, S3Settings
from services.dispatcher.executors.caller_accounts import OpensAccount
from services.dispatcher.executors.executor import Executor, LaunchFailed
from services.dispatcher.executors.local_executor import LocalExecutor
from services.dispatcher.executors.run_access import RunAccess
from services.dispatcher.settings import DispatcherSettings, ModalSettings


@asynccontextmanager
async def open_executor(
    settings: DispatcherSettings, nats: NatsSettings, s3: S3Settings, bucket: Bucket
) -> AsyncIterator[Executor]:
    """Open the executor; its workers continue when it is closed.

    Raises:
        CannotServeError: Modal was chosen, and its client, its token or the key of the workers' tokens is missing.
        ValidationError: Modal was chosen, and a setting is missing.
    """
    if not settings.runs_on_modal:
        local = LocalExecutor(settings.data_dir, nats, s3, slots=settings.slots)
        try:
            yield local
        finally:
            await local.close()
        return
    modal = ModalSettings()
    access = _access(modal)
    try:
        from services.dispatcher.executors.modal_executor import open_modal_executor  # noqa: PLC0415 - only if Modal was chosen
    except ModuleNotFoundError as error:
        raise CannotServeError(
            "Modal's client is not installed. In a clone of the repository: pip install -c constraints.txt '.[modal]'."
        ) from error
    async with AsyncExitStack() as stack:
        try:
            executor = await stack.enter_async_context(open_modal_executor(modal, bucket, access))
        except LaunchFailed as error:
            raise CannotServeError(str(error)) from error
        stack.push_async_callback(executor.close)
        yield executor


def _access(settings: ModalSettings) -> RunAccess:
    try:
        tokens = BusTokenIssuer(settings.seed(), settings.worker_account)
    except OSError as error:
        text = f"DISPATCHER_WORKER_SEED_FILE cannot be read ({error.strerror}): {error.filename}."
        raise CannotServeError(text) from error
    except ValueError as error:
        raise CannotServeError(f"DISPATCHER_WORKER_SEED_FILE: {error}.") from error
    return RunAccess(tokens, settings.worker_bus, settings.worker_bus_url)


def account_opener(settings: DispatcherSettings, bucket: Bucket) -> OpensAccount | None:
    """Return the function that opens the executor of a caller's Modal account; None if workers do not run on Modal."""
    if not settings.runs_on_modal:
        return None
    from services.dispatcher.executors.modal_executor import open_modal_executor  # noqa: PLC0415 - only if Modal was chosen

    modal = ModalSettings()
    return partial(open_modal_executor, modal, bucket, _access(modal))
