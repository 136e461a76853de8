"""What an error of Modal's client means: how a call ended, or that nobody knows. Names only, no ``modal``."""

from __future__ import annotations

import re
from typing import Final, Literal

from contracts.events.job import FailureClass
from services.dispatcher.executors.executor import CallState, CallStatus

#: It says nothing of the call: Modal or the way to it is in trouble. To be asked again.
Unknown = Literal["unknown"]
UNKNOWN: Final[Unknown] = "unknown"

#: What each error means when the outcome of a call is asked for; by class name, its own before its bases'.
#: None: the worker's own code raised, which its body never does in order.
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

#: Errors of the client that no call of a worker can meet: of sandboxes, mounts, volumes, snapshots and the workspace's
#: administration. Listed, so that a new one of a newer client is noticed (test_modal_failures.py).
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

#: A launch was refused for good, by name of the error; every other trouble passes.
REFUSALS: Final[dict[str, str]] = {
    "NotFoundError": "The worker is not deployed on Modal: run saccade modal deploy.",
    "AuthError": "Modal does not take the token: set MODAL_TOKEN_ID and MODAL_TOKEN_SECRET.",
    "PermissionDeniedError": "The Modal token may not run this worker.",
    "VersionError": "Modal no longer takes this version of its client.",
    "InvalidError": "Modal does not take the launch.",
    "RequestSizeError": "Modal does not take so large a launch.",
    "SerializationError": "The launch cannot be sent.",
}

_EXCEPTION: Final = re.compile(r"^\w*(Error|Exception|Warning|Exit|Interrupt)\b")


def class_names(error: BaseException) -> list[str]:
    """Give the names of an error's class and its bases, its own first."""
    return [one.__name__ for one in type(error).__mro__]


def status_of_error(error: BaseException, *, cancelled: bool) -> CallStatus | None:
    """Tell how a call ended whose outcome raised this; None when that says nothing of the call.

    With ``cancelled`` we asked for its end ourselves.
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
        # A failed import or start comes as the exception that it was.
        return CallStatus(CallState.ENDED, None, f"The worker cannot begin: {names[0]}: {text[:200]}", "broken")
    return CallStatus(CallState.ENDED, None, f"Modal: {names[0]}. {text[:200]}".strip(), known)
