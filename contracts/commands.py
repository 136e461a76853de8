"""Operators' commands: requests and answers on ``saccade.cmd.<service>.<verb>``, each with its models.

An answer is the command's own model, or a ``CommandError``. A command that changes something needs ``why``, and leaves
two records in the audit log (contracts/audit.py). The rights of NATS decide who may send one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter

from contracts.audit import Attribution
from contracts.errors import ErrorCode, SaccadeError
from contracts.ids import JOB_ID_PATTERN, id_pattern
from contracts.streams import DEADLETTERS, OPS

#: Subjects of all commands: who may publish there is an operator.
EVERY_COMMAND: Final = "saccade.cmd.>"
#: Subjects that an operator may publish to: commands, and reads of the audit log and of dead letters. What they change,
#: a service changes for them and records.
OPERATOR_READS: Final = tuple(
    f"$JS.API.{read}.{stream.name}" for stream in (OPS, DEADLETTERS) for read in ("DIRECT.GET", "STREAM.MSG.GET")
)
OPERATOR_SUBJECTS: Final = (EVERY_COMMAND, *OPERATOR_READS)
#: Prefix of the subjects at which operators receive answers.
OPERATOR_INBOX: Final = "_INBOX_operator"
#: Prefixes of the subjects that an answer may be sent to. Who asks names that subject, and on an event's subject the
#: answer would be stored as an event. ``_R_`` is nats-server's own, for requests from another account.
ANSWER_PREFIXES: Final = ("_INBOX", "_R_.")
#: Longest time that a service works on a command; an intent without an outcome is given up after it.
COMMAND_S: Final = 20.0

Why = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500)]
WorkloadName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,62}$")]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Answer(BaseModel):
    """Base of all answers: readers ignore unknown fields, so fields can be added."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Change(_Model):
    """Fields of every command that changes something."""

    #: Reason, for the audit log.
    why: Why
    #: Who sends it, as the sender says; where NATS tells the service, its user counts.
    by: Annotated[str, StringConstraints(max_length=200)] = ""
    request_id: Annotated[str, StringConstraints(pattern=id_pattern("req"))]


class Recorded(_Answer):
    """Fields of every answer to a command that changes something."""

    #: Sequence of the outcome in the audit log.
    record: int


class Hold(_Answer):
    """An order that jobs wait for: a drained dispatcher, or a paused workload."""

    since: AwareDatetime
    by: str
    why: str


# ---- the dispatcher


class GetStatus(_Model):
    """Ask what the dispatcher does."""


class Status(_Answer):
    """Work of the dispatcher, and the orders that it follows."""

    #: Since when nothing new is launched; None: jobs are launched.
    drained: Hold | None
    #: Workloads whose jobs stay queued.
    paused: dict[str, Hold]
    #: Jobs that have a worker, and jobs that wait for one.
    running: int
    waiting: int


class Drain(Change):
    """Stop launching anything new."""


class Drained(Recorded):
    """Nothing new is launched. ``running`` jobs go on."""

    running: int
    waiting: int


class Resume(Change):
    """Launch jobs again."""


class Resumed(Recorded):
    """Jobs are launched again; workloads that are paused stay paused."""

    waiting: int
    #: Workloads that are still paused.
    paused: list[str]


class PauseWorkload(Change):
    """Start no further jobs of a workload."""

    workload: WorkloadName


class WorkloadPaused(Recorded):
    """Jobs of the workload stay queued and say why. Those that run go on."""

    workload: str
    running: int
    waiting: int


class ResumeWorkload(Change):
    """Start jobs of a paused workload again."""

    workload: WorkloadName


class WorkloadResumed(Recorded):
    """Jobs of the workload are started again."""

    workload: str
    waiting: int


class RotateLease(Change):
    """Hand the lease of the dispatcher over to a standby."""


class LeaseRotated(Recorded):
    """Another dispatcher leads."""

    #: Ids of the processes that held the lease before and after.
    before: str
    after: str


class RefoldJob(Change):
    """Fold a job from its history again, in place of what the dispatcher has in memory."""

    job_id: Annotated[str, StringConstraints(pattern=JOB_ID_PATTERN)]


class FieldDifference(_Answer):
    """A field of a job whose value in memory was not the one of its history."""

    field: str
    memory: Any
    history: Any


class JobRefolded(Recorded):
    """The job as its history tells it, and how the memory differed."""

    job_id: str
    state: str
    attempt: int
    #: Sequence of the job's newest event.
    sequence: int
    #: Whether the job was in memory: a job that has ended is not.
    in_memory: bool
    differences: list[FieldDifference]


class RedriveDeadLetter(_Model):
    """Handle a dead letter again; when that went well, it is listed no longer. Nothing is deleted."""

    #: Sequence in the stream DEADLETTERS.
    dead_letter: int = Field(ge=1)
    #: Only say what would be done; needs no reason.
    dry_run: bool = False
    why: Annotated[str, StringConstraints(strip_whitespace=True, max_length=500)] = ""
    by: Annotated[str, StringConstraints(max_length=200)] = ""
    request_id: Annotated[str, StringConstraints(pattern=id_pattern("req"))]


class DeadLetterRedriven(_Answer):
    """Result of a re-drive; with ``dry_run`` nothing was done."""

    dead_letter: int
    consumer: str
    subject: str
    deliveries: int
    #: Why it became a dead letter.
    error: str
    #: What a re-drive means for this consumer: handle the event again, or fold its job from its history again.
    action: Literal["handle", "refold"]
    handled: bool
    #: Sequence of the outcome in the audit log; None with ``dry_run``.
    record: int | None = None


class DiscardDeadLetter(Change):
    """Set a dead letter aside: it is not listed any more. Nothing is deleted."""

    dead_letter: int = Field(ge=1)


class DeadLetterDiscarded(Recorded):
    """The dead letter is no longer listed."""

    dead_letter: int


class AskedRedrive(_Model):
    """Request of another service: handle a dead letter again, once, for the operator who is named."""

    dead_letter: int = Field(ge=1)
    attribution: Attribution
    #: Plan of many acts that this one belongs to.
    plan: str | None = None


class AskedRedelivery(_Model):
    """Request of another service: send an event to an endpoint again."""

    tenant: str
    endpoint_id: str
    #: The event's sequence in EVENTS.
    sequence: int = Field(ge=1)


class RedeliveryAccepted(_Answer):
    """The redelivery is stored, and will be sent."""

    endpoint_id: str
    sequence: int


class CommandError(_Answer):
    """A command was not carried out, or failed."""

    code: str
    message: str
    hint: str

    def as_error(self) -> SaccadeError:
        """Return it as the error that the service raised."""
        code = ErrorCode(self.code) if self.code in set(ErrorCode) else ErrorCode.INTERNAL
        return SaccadeError(code, self.message, hint=self.hint)


@dataclass(frozen=True)
class CommandSender:
    """Sender of a command as NATS names it; None where it does not."""

    user: str | None = None


@dataclass(frozen=True)
class Command:
    """One command."""

    service: str
    verb: str
    request: type[BaseModel]
    answer: type[BaseModel]
    description: str

    @property
    def subject(self) -> str:
        """Subject of the request."""
        return command_subject(self.service, self.verb)

    @property
    def ask_subject(self) -> str:
        """Subject of the same request from another service, which has checked the operator itself."""
        return f"saccade.ask.{self.service}.{self.verb}"


def command_subject(service: str, verb: str) -> str:
    """Return the subject of a command's request."""
    return f"saccade.cmd.{service}.{verb}"


def read_answer(command: Command, body: bytes) -> BaseModel | CommandError:
    """Read an answer.

    Raises:
        ValueError: it is neither the command's answer nor an error.
    """
    fields = TypeAdapter(dict[str, Any]).validate_json(body)
    return (CommandError if "code" in fields else command.answer).model_validate(fields)


DISPATCHER: Final = "dispatcher"
NOTIFIER: Final = "notifier"

COMMANDS: Final = (
    Command(DISPATCHER, "status", GetStatus, Status, "What is held back, what runs, what waits."),
    Command(DISPATCHER, "drain", Drain, Drained, "Launch nothing new, over restarts too; running jobs go on."),
    Command(DISPATCHER, "resume", Resume, Resumed, "Launch jobs again after a drain."),
    Command(DISPATCHER, "pause_workload", PauseWorkload, WorkloadPaused, "Keep a workload's jobs queued."),
    Command(DISPATCHER, "resume_workload", ResumeWorkload, WorkloadResumed, "Start a paused workload's jobs again."),
    Command(DISPATCHER, "rotate_lease", RotateLease, LeaseRotated, "Hand over to a standby dispatcher."),
    Command(DISPATCHER, "refold_job", RefoldJob, JobRefolded, "Fold a job from its history again."),
    Command(DISPATCHER, "redrive_dead_letter", RedriveDeadLetter, DeadLetterRedriven, "Handle a dead letter again."),
    Command(DISPATCHER, "discard_dead_letter", DiscardDeadLetter, DeadLetterDiscarded, "Set a dead letter aside."),
)

#: Requests between services, on ``ask_subject`` alone.
ASK_REDRIVE: Final = Command(
    DISPATCHER, "redrive_dead_letter", AskedRedrive, DeadLetterRedriven, "Handle a dead letter again, once."
)
ASK_REDELIVERY: Final = Command(
    NOTIFIER, "redeliver", AskedRedelivery, RedeliveryAccepted, "Send an event to an endpoint again."
)


def command(service: str, verb: str) -> Command:
    """Return a command of the table.

    Raises:
        KeyError: there is no such command.
    """
    return {(known.service, known.verb): known for known in COMMANDS}[service, verb]
