"""Which subjects of the bus each kind of token is for; that no other right is there stands in docs/adr/0005."""

from __future__ import annotations

from dataclasses import dataclass

from contracts.events.base import ADVISORY, DURABLE, subject_of
from contracts.events.job import WORKER_SHOWS, WORKER_VERBS
from contracts.events.session import SESSION_WORKER_SHOWS, SESSION_WORKER_VERBS
from contracts.session import clock_subject, fed_subject, feed_subject, job_of, telemetry_subject
from contracts.streams import EVENTS, LIVE_EVENTS, aggregate


@dataclass(frozen=True, slots=True)
class Rights:
    """What the bearer of a token may do, besides hearing answers in an inbox of its own."""

    #: Subjects that it may publish to, or ask.
    says: tuple[str, ...]
    #: Subjects that it may hear.
    hears: tuple[str, ...] = ()
    #: Whether it may answer those whose questions it hears, once each.
    answers: bool = False
    #: At once: its inbox, and one more, so that a client may make the new one before it ends the old.
    subscriptions: int = 2


def rights_of_run(tenant: str, job_id: str) -> Rights:
    """Say what one run of a job's worker may do: what workers say of this job, and to read the job."""
    return Rights((*_says(tenant, "job", job_id, WORKER_VERBS, WORKER_SHOWS), _reads(tenant, "job", job_id)))


def rights_of_session_run(tenant: str, session_id: str, run_id: str, replay_of: str | None) -> Rights:
    """Say what one run of a session's worker may do: what its job's may, the same for its session, and its telemetry.

    It asks for what was sent into its own session, and into that which it replays; the gateway has it sent to a subject
    of the run. Besides, it tells its time, and hears what is said of its session.

    Raises:
        ValueError: an id is not one.
    """
    fed = (session_id, replay_of) if replay_of else (session_id,)
    return Rights(
        says=(
            *rights_of_run(tenant, job_of(session_id)).says,
            *_says(tenant, "session", session_id, SESSION_WORKER_VERBS, SESSION_WORKER_SHOWS),
            _reads(tenant, "session", session_id),
            telemetry_subject(tenant, session_id, "acks"),
            *(feed_subject(tenant, run_id, one) for one in fed),
        ),
        hears=(
            LIVE_EVENTS.removesuffix("saccade.evt.>") + aggregate(tenant, "session", session_id),
            clock_subject(tenant, session_id),
            fed_subject(tenant, run_id, "*"),
        ),
        answers=True,
        subscriptions=6,
    )


def rights_of_sender(tenant: str, session_id: str) -> Rights:
    """Say what a robot or a camera may do: send joints and frames into one session, and ask its worker's time."""
    sent = (telemetry_subject(tenant, session_id, name) for name in ("joints", "frames"))
    return Rights((*sent, clock_subject(tenant, session_id)))


def _says(tenant: str, noun: str, of: str, verbs: tuple[str, ...], shows: tuple[str, ...]) -> tuple[str, ...]:
    """List the subjects of all that a worker says of its job or session."""
    durable = (subject_of(DURABLE, tenant, noun, of, verb) for verb in verbs)
    return (*durable, *(subject_of(ADVISORY, tenant, noun, of, verb) for verb in shows))


def _reads(tenant: str, noun: str, of: str) -> str:
    """Name the requests for the newest event of one of the thing's own subjects, or of them all.

    One pattern, not every verb by name: a token must fit into one line of NATS's protocol.
    """
    return f"$JS.API.DIRECT.GET.{EVENTS.name}.{aggregate(tenant, noun, of)}"
