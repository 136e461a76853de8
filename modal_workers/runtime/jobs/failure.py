"""What kind of failure an exception is: the user's, the machine's or the worker's own. Pure."""

from __future__ import annotations

import errno

from contracts.errors import ErrorBody, ErrorCode, SaccadeError
from contracts.events.job import FailureClass

_MESSAGE_CHARS = 300
#: OpenCV's StsNoMem; its errors are no MemoryError.
_OPENCV_NO_MEMORY = -4


def classify(error: Exception) -> tuple[FailureClass, ErrorBody]:
    """Give the failure class of an exception and the error that a user sees; no path, no traceback, no secret."""
    if isinstance(error, SaccadeError):
        return _class_of(error), error.body()
    if _out_of_memory(error):
        return "out_of_memory", SaccadeError(ErrorCode.OUT_OF_MEMORY).body()
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "lost", SaccadeError(ErrorCode.STORAGE_FULL).body()
    first_line = str(error).strip().partition("\n")[0]
    message = f"{type(error).__name__}: {first_line}" if first_line else type(error).__name__
    return "broken", SaccadeError(ErrorCode.WORKER_BROKEN, message[:_MESSAGE_CHARS]).body()


def _class_of(error: SaccadeError) -> FailureClass:
    """Go by the code: below 500 it is the user's; what may be tried again was the machine's."""
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
    # By name: neither torch nor OpenCV is imported here.
    names = {f"{kind.__module__.partition('.')[0]}.{kind.__name__}" for kind in type(error).__mro__}
    return "torch.OutOfMemoryError" in names or (
        "cv2.error" in names and getattr(error, "code", None) == _OPENCV_NO_MEMORY
    )
