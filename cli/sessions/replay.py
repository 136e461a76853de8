"""Replay of a session's recorded telemetry into a new session, and comparison of both results."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from saccade_client import ArtifactsView, Client, SessionView

from cli.failure import Failure
from cli.output import print_note
from cli.progress_bar import ProgressCallback
from contracts.limits import SESSION_LENGTH_S

#: Interval of reading the replay's progress.
_POLL_S: Final = 1.0


@dataclass(frozen=True)
class ComparedValue:
    """A figure or a file's SHA-256 of both sessions."""

    name: str
    original: Any
    replay: Any

    @property
    def same(self) -> bool:
        """Whether both have it and it is equal."""
        return self.original is not None and self.original == self.replay


def open_replay(client: Client, session_id: str, params: Mapping[str, Any]) -> tuple[SessionView, SessionView]:
    """Open a session that replays another one, with its parameters changed by ``params``; return both.

    Raises:
        Failure: the session has not ended, or some of its frames have expired.
        ClientError: there is no such session.
    """
    original = client.sessions.get(session_id)
    if not original.ended:
        raise Failure(
            f"Session {original.id} is {original.state}.",
            code="session_not_ended",
            hint=f"Only ended sessions can be replayed. To stop it: saccade sessions stop {original.id}",
        )
    with contextlib.closing(client.sessions.record(original.id)) as record:
        kept = record.size()
        if kept.frames_missing:
            raise Failure(
                f"{kept.frames_missing} of {kept.frames_sent} frames have expired.",
                code="session_record_expired",
                hint="Telemetry is kept for 6 hours: replay a session within that time.",
            )
    # A replay lasts as long as the original, plus the start of its worker; more than this no session is given.
    opened = client.sessions.open(
        original.workload,
        original.params | dict(params),
        replay_of=original.id,
        max_length_s=SESSION_LENGTH_S,
    )
    return original, opened


def follow_replay(client: Client, original: SessionView, replay: SessionView, update: ProgressCallback) -> SessionView:
    """Wait for the end of a replay and return it.

    Raises:
        Failure: the replay failed.
    """
    wanted = max(1, original.frames.accepted)
    while not replay.ended:
        update(replay.frames.accepted / wanted, f"{replay.state}, {replay.frames.accepted} of {wanted} frames")
        replay = client.sessions.get(replay.id, wait_s=_POLL_S)
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
    """Compare two ended sessions: steps, chunks, accepted frames, and each file's SHA-256.

    Raises:
        ClientError: the artifacts of one of them cannot be read.
    """
    first, second = (client.artifacts(_job_id(session)) for session in (original, replay))
    compared = [
        ComparedValue("steps", _figure(original, "steps"), _figure(replay, "steps")),
        ComparedValue("chunks", (original.result or {}).get("chunks"), (replay.result or {}).get("chunks")),
        ComparedValue("accepted frames", original.frames.accepted, replay.frames.accepted),
    ]
    if compared[0].original is None and compared[0].replay is None:
        # Not every workload has steps.
        del compared[0]
    sums, again = _sums(first), _sums(second)
    return compared + [ComparedValue(name, sums.get(name), again.get(name)) for name in sorted({*sums, *again})]


def require_identical(compared: Sequence[ComparedValue]) -> None:
    """Check that a replay gave the same result.

    Raises:
        Failure: it did not; names what differs.
    """
    if differing := [value.name for value in compared if not value.same]:
        raise Failure(
            f"The replay gave another result: {', '.join(differing)}.",
            code="replay_differs",
            hint="Another worker version, device or number of threads changes the last digits.",
        )


def warn_of_failure(original: SessionView) -> None:
    """Print a note if the original session failed: it is compared as far as it got."""
    if original.state == "failed":
        print_note(f"  note: session {original.id} failed; its results are compared as far as it got.")


def _job_id(session: SessionView) -> str:
    return str((session.job or {}).get("id") or session.links["job"].rpartition("/")[2])


def _figure(session: SessionView, name: str) -> Any:
    result = session.result or {}
    return (result.get("figures") or {}).get(name, session.figures.get(name))


def _sums(left: ArtifactsView) -> dict[str, str]:
    return {artifact.name: artifact.sha256 for artifact in left.artifacts}
