"""Progress of loading a session's model, reported to its viewers.

Meanwhile the session is not idle, and a requested end ends the loading.
"""

from __future__ import annotations

from typing import Final

from modal_workers.runtime.sessions.live_context import LiveContext
from modal_workers.vision_stream.spec import VisionStreamParams

_STATE: Final = "loading"


class EndedWhileLoading(Exception):  # noqa: N818 - no error
    """The session has to end before its model is loaded."""


class LoadingProgress:
    """Progress of one loading; a function of what is done and how much of it."""

    def __init__(self, params: VisionStreamParams, context: LiveContext) -> None:
        """Report to the viewers of a session."""
        self._model, self._context = params.model, context

    def __call__(self, what: str, fraction: float) -> None:
        """Report how far it is.

        Raises:
            EndedWhileLoading: the end of the session was requested, or it is at its maximum length.
        """
        # Weights may take longer than the idle timeout: who waits for them before sending frames is not idle.
        self._context.restart_idle_time()
        if self._context.ending:
            raise EndedWhileLoading
        percent = round(100 * fraction)
        figures = {"state": _STATE, "model": self._model, "loading": f"{what} {percent} %", "loading_percent": percent}
        self._context.report(figures)
