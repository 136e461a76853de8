"""Gives a session again what it was given once, and says whether it made the same of it."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from saccade import ArtifactsView, Client, SessionView

from cli.failure import Failure
from cli.output import print_note
from cli.progress_bar import ProgressCallback
from contracts.limits import SESSION_LENGTH_S

#: Looked at this often while somebody watches.
_LOOK_S: Final = 1.0


@dataclass(frozen=True)
class ComparedValue:
    """One thing that both sessions left."""

    name: str
    original: Any
    replay: Any

    @property
    def same(self) -> bool:
        """Tell whether it is the same, and there at all."""
        return self.original is not None and self.original == self.replay


def open_replay(client: Client, session_id: str, params: Mapping[str, Any]) -> tuple[SessionView, SessionView]:
    """Open a session on another one's record, with its parameters but for those given; give both.

    Raises:
        Failure: it has not ended, or its frames are not all kept any more.
        ClientError: there is no such session.
    """
    original = client.sessions.get(session_id)
    if not original.ended:
        raise Failure(
            f"Session {original.id} is {original.state}.",
            code="session_not_ended",
            hint=f"Only what is over is replayed. End it with: saccade sessions stop {original.id}",
        )
    with contextlib.closing(client.sessions.record(original.id)) as record:
        kept = record.size()
        if kept.frames_missing:
            raise Failure(
                f"Of {kept.frames_sent} frames {kept.frames_missing} are not kept any more.",
                code="session_record_expired",
                hint="Telemetry is kept for 6 hours: replay a session before that.",
            )
    # A replay lasts as long as what it repeats, and its worker's start counts too.
    opened = client.sessions.open(
        original.workload,
        original.params | dict(params),
        replay_of=original.id,
        max_length_s=max(original.max_length_s or 0.0, SESSION_LENGTH_S),
    )
    return original, opened


def follow_replay(client: Client, original: SessionView, replay: SessionView, update: ProgressCallback) -> SessionView:
    """Wait for the end of a replay.

    Raises:
        Failure: it failed.
    """
    wanted = max(1, original.frames.accepted)
    while not replay.ended:
        update(replay.frames.accepted / wanted, f"{replay.state}, {replay.frames.accepted} of {wanted} frames")
        replay = client.sessions.get(replay.id, wait_s=_LOOK_S)
    if replay.state == "failed":
        error = replay.error
        raise Failure(
            error.message if error else "The replay failed.",
            code=error.code if error else "failed",
            hint=error.hint if error else "",
        )
    update(1.0, "done")
    return replay


def compare(client: Client, original: SessionView, replay: SessionView) -> list[ComparedValue]:
    """Hold two sessions that have ended against each other: steps, chunks, frames, and each file's SHA-256.

    Raises:
        ClientError: what one of them left cannot be read.
    """
    first, second = (client.artifacts(_job_of(one)) for one in (original, replay))
    compared = [
        ComparedValue("steps", _figure(original, "steps"), _figure(replay, "steps")),
        ComparedValue("chunks", (original.result or {}).get("chunks"), (replay.result or {}).get("chunks")),
        ComparedValue("accepted frames", original.frames.accepted, replay.frames.accepted),
    ]
    if compared[0].original is None and compared[0].replay is None:
        # Not every workload works in steps.
        del compared[0]
    sums, again = _sums(first), _sums(second)
    return compared + [ComparedValue(name, sums.get(name), again.get(name)) for name in sorted({*sums, *again})]


def require_identical(compared: Sequence[ComparedValue]) -> None:
    """Let a replay pass that made the same of it.

    Raises:
        Failure: it did not; with what differs.
    """
    if differing := [one.name for one in compared if not one.same]:
        raise Failure(
            f"The replay made something else of it: {', '.join(differing)}.",
            code="replay_differs",
            hint="Another version of the worker, another device or number of threads computes other digits.",
        )


def warn_of_failure(original: SessionView) -> None:
    """Say that a session which failed cannot be repeated to its end."""
    if original.state == "failed":
        print_note(f"  note: session {original.id} failed; what it left is compared as far as it came.")


def _job_of(session: SessionView) -> str:
    return str((session.job or {}).get("id") or session.links["job"].rpartition("/")[2])


def _figure(session: SessionView, name: str) -> Any:
    result = session.result or {}
    return (result.get("figures") or {}).get(name, session.figures.get(name))


def _sums(left: ArtifactsView) -> dict[str, str]:
    return {artifact.name: artifact.sha256 for artifact in left.artifacts}
