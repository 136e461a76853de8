"""Failure classes of exceptions."""

from __future__ import annotations

import errno
from collections.abc import Callable

import cv2
import numpy as np
import pytest

from contracts.errors import KINDS, ErrorCode, SaccadeError
from modal_workers.runtime.jobs.failure import classify


def raised(action: Callable[[], object]) -> Exception:
    with pytest.raises(Exception) as caught:  # noqa: PT011 - the library decides which
        action()
    assert isinstance(caught.value, Exception)
    return caught.value


@pytest.mark.parametrize(
    ("error", "failure", "code"),
    [
        (SaccadeError(ErrorCode.CLIPS_DIFFERENT_PLACES), "user", "clips_different_places"),
        (SaccadeError(ErrorCode.BACKEND_NOT_INSTALLED), "user", "backend_not_installed"),
        (SaccadeError(ErrorCode.OUT_OF_MEMORY), "out_of_memory", "out_of_memory"),
        (SaccadeError(ErrorCode.STORAGE_UNAVAILABLE), "lost", "storage_unavailable"),
        (SaccadeError(ErrorCode.STORAGE_FULL), "lost", "storage_full"),
        (SaccadeError(ErrorCode.INTERNAL), "broken", "internal"),
        (MemoryError(), "out_of_memory", "out_of_memory"),
        (OSError(errno.ENOMEM, "x"), "out_of_memory", "out_of_memory"),
        (OSError(errno.ENOSPC, "/secret/path"), "lost", "storage_full"),
        (raised(lambda: np.ones(1 << 60, np.uint8)), "out_of_memory", "out_of_memory"),
        (raised(lambda: cv2.cvtColor(np.zeros((0, 0, 3), np.uint8), cv2.COLOR_BGR2GRAY)), "broken", "worker_broken"),
        (FileNotFoundError("a"), "broken", "worker_broken"),
        (ZeroDivisionError("division by zero"), "broken", "worker_broken"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
def test_the_class_of_a_failure(error: Exception, failure: str, code: str) -> None:
    found, body = classify(error)
    assert (found, body.code) == (failure, code)
    assert body.message
    assert body.hint
    assert "/secret" not in body.message


def test_opencv_without_memory_is_out_of_memory() -> None:
    error = cv2.error("(-4:Insufficient memory) Failed to allocate 1 bytes")
    error.code = -4
    assert classify(error)[0] == "out_of_memory"


def test_every_code_has_a_class() -> None:
    classes = {code: classify(SaccadeError(code))[0] for code in ErrorCode}
    assert {classes[code] for code in ErrorCode if KINDS[code].status < 500} == {"user"}
    assert classes[ErrorCode.TIMED_OUT] == "timed_out"
    assert classes[ErrorCode.WORKER_BROKEN] == "broken"


def test_only_the_first_line_of_an_error_is_published() -> None:
    _, body = classify(RuntimeError("first line\nsecond line with a path"))
    assert body.message == "RuntimeError: first line"
    _, body = classify(RuntimeError("x" * 10_000))
    assert len(body.message) <= 300


def test_a_missing_module_is_the_machines_if_the_workload_requires_it() -> None:
    error = ModuleNotFoundError("No module named 'pi_heif.heif'", name="pi_heif.heif")
    found, body = classify(error, ("cv2", "pi_heif"))
    assert (found, body.code) == ("user", "backend_not_installed")
    assert "pi_heif" in body.message
    # A module that nobody declared is a fault of the worker.
    assert classify(error, ("cv2",))[1].code == "worker_broken"
