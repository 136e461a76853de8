"""Worker that executes the steps in its parameters: for tests of everything around a worker."""

from __future__ import annotations

from pydantic import Field

from contracts.workload import Compute, Input, Params, Result, Stage, Workload


class ScriptedParams(Params):
    """Script of one step per line, see job.py."""

    script: list[str] = Field(default_factory=list)


class ScriptedResult(Result):
    """Result of the script."""

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
