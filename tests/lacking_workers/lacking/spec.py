"""Declaration of a worker that requires a module that exists nowhere."""

from __future__ import annotations

from contracts.workload import Input, Params, Result, Stage, Workload

ABSENT = "module_that_nobody_installs"


class LackingParams(Params):
    """No parameters."""


class LackingResult(Result):
    """No result."""


WORKLOAD = Workload(
    name="lacking",
    title="Lacking",
    description="Requires a module that exists nowhere.",
    version="1",
    params=LackingParams,
    result=LackingResult,
    inputs=(Input("clip", "video", "A clip"),),
    stages=(Stage("work", "Work", 1.0),),
    job="tests.lacking_workers.lacking.job:run",
    requires=("json", ABSENT),
    extra="everything",
)
