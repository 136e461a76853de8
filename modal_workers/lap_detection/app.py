"""Modal app of the lap detection; the work is ``job.py``."""

from __future__ import annotations

from typing import Any

import modal

from modal_workers import images
from modal_workers.deployment import Deployment
from modal_workers.lap_detection.spec import WORKLOAD

DEPLOYMENT = Deployment.of(WORKLOAD)

app = modal.App(DEPLOYMENT.app_name)


@app.function(
    image=images.slim("lap-compare"),
    secrets=images.bucket_secrets(),
    **DEPLOYMENT.options(),
)
def run(launch: dict[str, Any]) -> dict[str, Any]:
    """Run one attempt of one job."""
    from modal_workers.runtime import modal_entry  # noqa: PLC0415 - not needed where it is deployed from

    return modal_entry.run(launch, modal.current_function_call_id())
