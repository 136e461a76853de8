"""Every error of Modal's client has one meaning; an error that a newer client adds fails a test."""

from __future__ import annotations

import modal.exception
import pytest

from services.dispatcher.executors.executor import CallState
from services.dispatcher.executors.modal_failures import ENDINGS, UNKNOWN, UNRELATED, status_of_error


def errors_of_the_client() -> list[type[BaseException]]:
    found = [value for value in vars(modal.exception).values() if isinstance(value, type)]
    ours = [cls for cls in found if issubclass(cls, BaseException) and cls.__module__ == "modal.exception"]
    return [cls for cls in ours if not issubclass(cls, Warning) and not cls.__name__.startswith("_")]


def test_every_error_of_the_client_is_listed() -> None:
    known = {*ENDINGS, *UNRELATED, "RemoteError", "InputCancellation"}
    new = {cls.__name__ for cls in errors_of_the_client()} - known
    assert {name for name in new if not name.startswith("Sandbox")} == set()
    assert known - {cls.__name__ for cls in errors_of_the_client()} == set(), "no longer there"


@pytest.mark.parametrize("name", [name for name, meaning in ENDINGS.items() if meaning == UNKNOWN])
def test_connection_errors_say_nothing_about_the_call(name: str) -> None:
    error = getattr(modal.exception, name)("away")
    assert status_of_error(error, cancelled=False) is None


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (modal.exception.FunctionTimeoutError("Task's current input hit its timeout of 8s"), "timed_out"),
        (modal.exception.OutputExpiredError(), "lost"),
        (modal.exception.InternalFailure("lost"), "lost"),
        (modal.exception.RemoteError("Runner failed with exit code: 137"), "lost"),
        (modal.exception.RemoteError(""), "lost"),
        (modal.exception.RemoteError("ValidationError('1 validation error for Launch')"), "broken"),
        (modal.exception.NotFoundError("no such call"), "lost"),
        (ModuleNotFoundError("No module named 'services'"), "broken"),
        (SystemExit(1), "broken"),
    ],
)
def test_each_error_has_its_failure_class(error: BaseException, failure: str) -> None:
    status = status_of_error(error, cancelled=False)
    assert status is not None
    assert (status.state, status.failure) == (CallState.ENDED, failure)
    assert status.detail


def test_a_call_that_we_cancelled_counts_as_cancelled() -> None:
    status = status_of_error(modal.exception.RemoteError("KeyboardInterrupt()"), cancelled=True)
    assert status is not None
    assert (status.state, status.failure, status.detail) == (CallState.ENDED, "lost", "The call was cancelled.")
