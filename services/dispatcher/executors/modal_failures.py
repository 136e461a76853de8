"""Classification of the errors of Modal's client by class name, without importing ``modal``."""

from __future__ import annotations

import re
from typing import Final, Literal

from contracts.events.job import FailureClass
from services.dispatcher.executors.executor import CallState, CallStatus

#: The error says nothing about the call: Modal, or the connection to it, has a problem. Poll again.
Unknown = Literal["unknown"]
UNKNOWN: Final[Unknown] = "unknown"

#: Failure class of each error of a request for a call's result, by class name; a class has precedence over its bases.
ENDINGS: Final[dict[str, FailureClass | Unknown]] = {
    "FunctionTimeoutError": "timed_out",
    "OutputExpiredError": "lost",
    "NotFoundError": "lost",
    "InternalFailure": "lost",
    "DataLossError": "lost",
    "InvalidError": "lost",
    "DeserializationError": "broken",
    "SerializationError": "broken",
    "ExecutionError": "broken",
    "ImageBuildError": "broken",
    "RequestSizeError": "broken",
    "AuthError": UNKNOWN,
    "PermissionDeniedError": UNKNOWN,
    "VersionError": UNKNOWN,
    "ClientClosed": UNKNOWN,
    "ConnectionError": UNKNOWN,
    "ServiceError": UNKNOWN,
    "InternalError": UNKNOWN,
    "UnimplementedError": UNKNOWN,
    "ResourceExhaustedError": UNKNOWN,
    "TimeoutError": UNKNOWN,
    "Error": UNKNOWN,
}

#: Errors of the client that calls never raise: sandboxes, mounts, volumes, snapshots and administration of the
#: workspace. Listed so that a test detects errors that a newer client adds (test_modal_failures.py).
UNRELATED: Final = (
    "AlreadyExistsError",
    "ConflictError",
    "ExecTimeoutError",
    "InteractiveTimeoutError",
    "LogsFetchError",
    "ModuleNotMountable",
    "MountUploadTimeoutError",
    "SnapshotCreationError",
    "VolumeUploadTimeoutError",
    "WorkspaceManagementError",
)

#: Messages of errors that make a launch fail for good; after every other error the launch is tried again.
REFUSALS: Final[dict[str, str]] = {
    "NotFoundError": "The worker is not deployed on Modal: run saccade modal deploy.",
    "AuthError": "Modal rejects the API token: set MODAL_TOKEN_ID and MODAL_TOKEN_SECRET.",
    "PermissionDeniedError": "The Modal token may not run this worker: use one of the workspace with the workers.",
    "VersionError": "Modal no longer supports this version of its client: update the modal package.",
    "InvalidError": "Modal rejects the launch as invalid: update the modal package, then run saccade modal deploy.",
    "RequestSizeError": "Modal rejects the launch because it is too large.",
    "SerializationError": "The launch cannot be serialized.",
}

_EXCEPTION: Final = re.compile(r"^\w*(Error|Exception|Warning|Exit|Interrupt)\b")


def class_names(error: BaseException) -> list[str]:
    """Return the names of an error's class and its bases, its own first."""
    return [cls.__name__ for cls in type(error).__mro__]


def status_of_error(error: BaseException, *, cancelled: bool) -> CallStatus | None:
    """Return the status of a call whose result raised this error; None if the error says nothing about the call.

    ``cancelled``: the dispatcher has cancelled the call.
    """
    names = class_names(error)
    text = str(error).strip()
    if names[0] in ("RemoteError", "InputCancellation"):
        if cancelled or names[0] == "InputCancellation":
            return CallStatus(CallState.ENDED, None, "The call was cancelled.", "lost")
        if _EXCEPTION.match(text):
            return CallStatus(CallState.ENDED, None, f"The worker's function failed: {text[:200]}", "broken")
        return CallStatus(CallState.ENDED, None, f"Modal lost the worker. {text[:200]}".strip(), "lost")
    known = next((ENDINGS[name] for name in names if name in ENDINGS), None)
    if known == UNKNOWN:
        return None
    if known is None:
        # A failed import or start raises the original exception.
        return CallStatus(CallState.ENDED, None, f"The worker cannot start: {names[0]}: {text[:200]}", "broken")
    return CallStatus(CallState.ENDED, None, f"Modal: {names[0]}. {text[:200]}".strip(), known)
