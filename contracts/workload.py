"""Declaration of a workload: parameters, inputs, result, stages and compute. Read by services and workers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

Media = Literal["video", "image", "archive"]


class Params(BaseModel):
    """Base class of every worker's parameters: immutable, unknown names are rejected."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Result(BaseModel):
    """Base class of every worker's result."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True)
class Input:
    """Named input: one upload, or several."""

    name: str
    media: Media
    title: str
    minimum: int = 1
    maximum: int = 1


@dataclass(frozen=True)
class Compute:
    """Compute resources of a workload. ``gpus`` is its GPU ladder, cheapest first; empty means CPU.

    contracts/gpu_ladder.py selects the GPUs that an environment uses: in production A10 and larger.
    """

    gpus: tuple[str, ...] = ()
    cpu_cores: float = 2.0
    memory_bytes: int = 2 * 1024**3
    timeout_s: float = 1800.0
    start_timeout_s: float = 60.0
    #: Billed time of a typical run: the estimate while there is no history.
    typical_s: float = 60.0


def _always(_: Any) -> bool:
    return True


def _single(_: Any) -> int:
    return 1


def _no_fault(params: Any, inputs: Mapping[str, Any]) -> tuple[tuple[str, ...], str] | None:  # noqa: ARG001
    return None


def _no_headline(_: Any) -> str:
    return ""


@dataclass(frozen=True)
class Stage:
    """One stage of a job. ``share`` is its weight in the progress of the job.

    A stage of a pipeline is executed by separate jobs of the workload ``work``, with the compute of that workload. The
    two functions take the pipeline's parameters and must be pure: every dispatcher calls them again.
    """

    name: str
    title: str
    share: float
    work: str = ""
    #: Whether its jobs get the pipeline's inputs. A stage passes files to later stages as checkpoints.
    takes_inputs: bool = False
    needed: Callable[[Any], bool] = _always
    #: Number of jobs that the stage is split into, 1 to 999.
    shards: Callable[[Any], int] = _single


@dataclass(frozen=True)
class Backend:
    """Parameter value that requires an optional package."""

    parameter: str
    value: Any
    #: Top-level Python module, or absolute path of a program.
    package: str
    hint: str


@dataclass(frozen=True)
class Pick:
    """One row that a person chooses for a follow-up: ``into`` is the path of an object inside of its parameters."""

    title: str
    into: tuple[str, ...]


@dataclass(frozen=True)
class FollowUp:
    """A job of another workload that a result leads to: with the same uploads, and rows of the result as parameters.

    ``rows`` names a list of objects in the result. ``fields`` maps members of each pick's object to members of a row,
    ``inputs`` the other workload's inputs to those of this one.
    """

    workload: str
    title: str
    rows: str
    picks: Sequence[Pick]
    fields: Mapping[str, str]
    inputs: Mapping[str, str]
    #: Members of a row that are shown, with their titles.
    columns: Mapping[str, str]
    #: Member that is true for rows that few want: others are proposed first. Empty: none.
    unlikely: str = ""


@dataclass(frozen=True)
class Workload:
    """One workload. ``job`` names its function ``run(params, context) -> Result`` as ``module:function``.

    A workload of kind ``session`` runs until it is stopped: its function gets a ``LiveContext`` and returns a
    ``contracts.session.SessionResult``. A workload of kind ``pipeline`` has no worker: its stages are jobs of workloads
    of kind ``stage``, which get its parameters and share its folders in the bucket; the result of the last needed stage
    is the pipeline's result.
    """

    name: str
    title: str
    description: str
    version: str
    params: type[Params]
    result: type[Result]
    inputs: Sequence[Input]
    stages: Sequence[Stage]
    #: Sets of inputs of which exactly one must be given; each of these inputs has a minimum of 0.
    one_of: Sequence[tuple[str, ...]] = ()
    job: str = ""
    #: Folder of the worker, where it is not named as the workload: that of nerf_exhibit is ``report``.
    folder: str = ""
    #: Returns a result in one sentence without a full stop, wherever people read it: API, command line, demo, report.
    headline: Callable[[Any], str] = _no_headline
    #: Returns what is wrong with the parameters for inputs of these durations, as a path inside of the parameters and a
    #: text. Pure: the gateway refuses such a job before it is stored, as far as the durations are known by then.
    check_durations: Callable[[Any, Mapping[str, float]], tuple[tuple[str, ...], str] | None] = _no_fault
    #: The same for the names of the files of each input.
    check_names: Callable[[Any, Mapping[str, Sequence[str]]], tuple[tuple[str, ...], str] | None] = _no_fault
    #: Name of the artifact that shows the result to people; empty where there is none.
    report: str = ""
    compute: Compute = field(default_factory=Compute)
    kind: Literal["job", "session", "pipeline", "stage"] = "job"
    #: Whether a session's recorded inputs can be replayed into a new session.
    replayable: bool = True
    max_attempts: int = 4
    deadline_s: float = 6 * 3600.0
    #: What the worker cannot run without: top-level Python modules, and programs by their absolute path. Of a pipeline:
    #: that of its stages.
    requires: Sequence[str] = ()
    #: Extra of pyproject.toml that installs it.
    extra: str = ""
    #: What some values of the parameters need besides.
    backends: Sequence[Backend] = ()
    #: Joints that a session's parameters name, with lower and upper limit in radians.
    joint_limits_rad: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    #: Jobs that a result leads to, which pages offer beside it.
    follow_ups: Sequence[FollowUp] = ()
    #: Whether a session's worker describes the video in text: it answers questions about it and can be cancelled.
    takes_prompts: bool = False
