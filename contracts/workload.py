"""How a worker declares itself: what it takes, gives and needs. Read by the gateway, dispatcher and runtime."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

Media = Literal["video", "image", "archive"]


class Params(BaseModel):
    """Base of every worker's parameters: unknown names are refused, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Result(BaseModel):
    """Base of every worker's result."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True)
class Input:
    """One named input: an upload, or several."""

    name: str
    media: Media
    title: str
    minimum: int = 1
    maximum: int = 1


@dataclass(frozen=True)
class Compute:
    """What a stage needs to run on. ``gpus`` is the ladder, cheapest first; empty means CPU."""

    gpus: tuple[str, ...] = ()
    cpu_cores: float = 2.0
    memory_bytes: int = 2 * 1024**3
    timeout_s: float = 1800.0
    start_timeout_s: float = 60.0
    #: What a typical run is billed for: an estimate for as long as there is no history.
    typical_s: float = 60.0


def _always(_: Any) -> bool:
    return True


def _one(_: Any) -> int:
    return 1


@dataclass(frozen=True)
class Stage:
    """One step of a job. ``share`` is its part of the whole in the progress figure.

    A stage of a pipeline is done by jobs of its own, of the workload ``work`` and with that one's compute; the two
    functions take the pipeline's parameters and must be pure: every dispatcher asks them anew.
    """

    name: str
    title: str
    share: float
    work: str = ""
    #: Whether its jobs get the pipeline's inputs; what a stage makes for a later one it keeps as checkpoints.
    takes_inputs: bool = False
    needed: Callable[[Any], bool] = _always
    #: Into how many jobs it is fanned out, 1 to 999.
    shards: Callable[[Any], int] = _one


@dataclass(frozen=True)
class Backend:
    """A parameter value that only works where an optional package is installed."""

    parameter: str
    value: Any
    package: str
    hint: str


@dataclass(frozen=True)
class Workload:
    """One workload. ``job`` names its function ``run(params, context) -> Result`` as ``module:function``.

    One of kind ``session`` stays up: it gets a ``LiveContext`` and gives a ``contracts.session.SessionResult``.
    One of kind ``pipeline`` has no worker: its stages are jobs of workloads of kind ``stage``, which take its
    parameters and share its places in the bucket; the result of the last needed stage is the pipeline's.
    """

    name: str
    title: str
    description: str
    version: str
    params: type[Params]
    result: type[Result]
    inputs: Sequence[Input]
    stages: Sequence[Stage]
    #: Sets of inputs of which exactly one is given, whatever else is: each of them has a minimum of 0 for itself.
    one_of: Sequence[tuple[str, ...]] = ()
    job: str = ""
    #: Folder of the worker, where it is not named as the workload: that of nerf_exhibit is ``report``.
    folder: str = ""
    compute: Compute = field(default_factory=Compute)
    kind: Literal["job", "session", "pipeline", "stage"] = "job"
    max_attempts: int = 4
    deadline_s: float = 6 * 3600.0
    backends: Sequence[Backend] = ()
    #: Joints that a session's parameters name, and where each of them can be: lower and upper, radians.
    joint_limits_rad: Mapping[str, tuple[float, float]] = field(default_factory=dict)
