"""Failure class of an exception: the user's input, the machine or a bug of the worker. Pure."""

from __future__ import annotations

import errno
from collections.abc import Collection

from contracts.errors import ErrorBody, ErrorCode, SaccadeError
from contracts.events.job import FailureClass

_MESSAGE_CHARS = 300
#: OpenCV's StsNoMem: cv2.error is not a MemoryError.
_OPENCV_NO_MEMORY = -4


def classify(error: Exception, required: Collection[str] = ()) -> tuple[FailureClass, ErrorBody]:
    """Return the failure class and the error that the user sees; without paths, traceback or secrets.

    ``required`` are the modules that the workload requires: where one is missing, the machine lacks it.
    """
    if isinstance(error, SaccadeError):
        return _class_of(error), error.body()
    if isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] in required:
        refusal = SaccadeError(
            ErrorCode.BACKEND_NOT_INSTALLED, f"The worker needs {error.name}, which it does not have."
        )
        return _class_of(refusal), refusal.body()
    if _out_of_memory(error):
        return "out_of_memory", SaccadeError(ErrorCode.OUT_OF_MEMORY).body()
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "lost", SaccadeError(ErrorCode.STORAGE_FULL).body()
    first_line = str(error).strip().partition("\n")[0]
    message = f"{type(error).__name__}: {first_line}" if first_line else type(error).__name__
    return "broken", SaccadeError(ErrorCode.WORKER_BROKEN, message[:_MESSAGE_CHARS]).body()


def _class_of(error: SaccadeError) -> FailureClass:
    """Return the class of an error code: status below 500 is the user's, a retryable one the machine's."""
    if error.code is ErrorCode.OUT_OF_MEMORY:
        return "out_of_memory"
    if error.code is ErrorCode.TIMED_OUT:
        return "timed_out"
    if error.kind.status < 500:
        return "user"
    return "lost" if error.kind.retryable and error.code is not ErrorCode.INTERNAL else "broken"


def _out_of_memory(error: Exception) -> bool:
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    # Compared by name: torch and OpenCV are not imported here.
    names = {f"{kind.__module__.partition('.')[0]}.{kind.__name__}" for kind in type(error).__mro__}
    return "torch.OutOfMemoryError" in names or (
        "cv2.error" in names and getattr(error, "code", None) == _OPENCV_NO_MEMORY
    )
