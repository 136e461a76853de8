"""A worker that does what its parameters say, line by line: for tests of everything around a worker."""

from __future__ import annotations

from pydantic import Field

from contracts.workload import Compute, Input, Params, Result, Stage, Workload


class ScriptedParams(Params):
    """The script: one step a line, see job.py."""

    script: list[str] = Field(default_factory=list)


class ScriptedResult(Result):
    """What the script found out."""

    steps_done: int
    notes: dict[str, str]


WORKLOAD = Workload(
    name="scripted",
    title="Scripted",
    description="Does what it is told.",
    version="1",
    params=ScriptedParams,
    result=ScriptedResult,
    inputs=[Input(name="clip", media="video", title="Any file", minimum=0)],
    stages=[Stage("first", "First", 0.25), Stage("second", "Second", 0.75)],
    job="tests.workers.scripted.job:run",
    compute=Compute(memory_bytes=256 * 1024**2),
)
