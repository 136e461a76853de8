"""Count of the inputs, kept for the next stage."""

from __future__ import annotations

from modal_workers.runtime.context import Context
from tests.pipeline_workers.relay import killing
from tests.pipeline_workers.relay.gather.spec import RelayReport
from tests.pipeline_workers.relay.params import RelayParams


def run(params: RelayParams, context: Context) -> RelayReport:
    """Run the stage."""
    with context.stage("gather"):
        text = f"{context.input_count('photos')} photos"
        path = context.scratch / "gathered.txt"
        path.write_text(text)
        context.keep(path, "gathered.txt")
        context.save(path, "gathered.txt", "text/plain")
        if params.killed_in == "gather":
            killing.once(context, "killed.txt")
    return RelayReport(text=text)
