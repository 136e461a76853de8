"""One shard of the gathered inputs."""

from __future__ import annotations

from modal_workers.runtime.context import Context
from tests.pipeline_workers.relay import killing
from tests.pipeline_workers.relay.params import RelayParams
from tests.pipeline_workers.relay.shape.spec import RelayReport


def run(params: RelayParams, context: Context) -> RelayReport:
    """Run one shard."""
    shard, shards = context.shard
    with context.stage("shape"):
        gathered = context.checkpoint("gathered.txt")
        assert gathered
        if params.killed_in == "shape" and shard == 1:
            killing.once(context, "killed.txt")
        path = context.scratch / "shape.txt"
        path.write_text(f"{shard + 1}/{shards} of {gathered.read_text()}")
        context.progress(0.5, "Half of it.")
        context.save(path, f"shapes/shape_{shard:02d}.txt", "text/plain")
        context.keep(path, f"shape_{shard:03d}.txt")
    return RelayReport(text=path.read_text())
