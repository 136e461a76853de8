"""Combination of the shards."""

from __future__ import annotations

from modal_workers.runtime.context import Context
from tests.pipeline_workers.relay import killing
from tests.pipeline_workers.relay.bind.spec import RelayResult
from tests.pipeline_workers.relay.params import RelayParams


def run(params: RelayParams, context: Context) -> RelayResult:
    """Run the stage."""
    with context.stage("bind"):
        shapes = [context.checkpoint(f"shape_{shard:03d}.txt") for shard in range(params.shards)]
        text = ", ".join(shape.read_text() if shape else "none" for shape in shapes)
        if params.killed_in == "bind":
            killing.once(context, "killed.txt")
        path = context.scratch / "bound.txt"
        path.write_text(text)
        context.save(path, "bound.txt", "text/plain")
    return RelayResult(text=text)
