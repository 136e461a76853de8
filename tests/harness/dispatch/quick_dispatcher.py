"""A dispatcher in a process of its own whose workers are done at once: ``python -m`` this module."""

from __future__ import annotations

import asyncio

from contracts.assignment import Assignment
from contracts.workload import Compute
from kit.imports import collect_seldom
from modal_workers.catalog import workloads
from tests.harness.dispatch.scripted_executor import Script, ScriptedExecutor, Worker, works
from tests.harness.rules.dispatcher_process import dispatch

_AT_ONCE = 200
_FORGET_S = 10.0


class ForgetfulExecutor(ScriptedExecutor):
    """Keeps nothing of a worker that has ended a while ago: a long run is about the dispatcher's memory."""

    async def launch(self, assignment: Assignment, compute: Compute) -> str:
        call_id = await super().launch(assignment, compute)
        self.launched.clear()
        return call_id

    async def _run(self, script: Script, worker: Worker) -> None:
        await super()._run(script, worker)
        asyncio.get_running_loop().call_later(_FORGET_S, self._forget, f"call-{worker.assignment.run_id}")

    def _forget(self, call_id: str) -> None:
        self.workers.pop(call_id, None)
        self._tasks.pop(call_id, None)


if __name__ == "__main__":
    limits = {"slots": _AT_ONCE, "tenant_concurrency": _AT_ONCE, "workload_concurrency": _AT_ONCE, "lease_s": 5.0}
    dispatching = dispatch(
        workloads().values(), asyncio.Event(), works, executor=ForgetfulExecutor, snapshot_events=20_000, **limits
    )
    collect_seldom()  # as the service does
    asyncio.run(dispatching)
