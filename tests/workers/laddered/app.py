"""Modal app of a scripted worker on GPUs, with a volume of weights."""

from __future__ import annotations

from typing import Any

import modal

from modal_workers.deployment import (
    PYTHON,
    SECRET,
    SECRET_KEYS,
    SOURCE,
    Deployment,
    is_bytecode,
)
from tests.workers.laddered.spec import WORKLOAD

#: Volume of model weights, read-only; one folder per worker.
WEIGHTS_VOLUME = "saccade-weights"
WEIGHTS_PATH = "/weights"

DEPLOYMENT = Deployment.of(WORKLOAD)

app = modal.App(DEPLOYMENT.app_name)

weights = modal.Volume.from_name(WEIGHTS_VOLUME, create_if_missing=True, version=2).with_mount_options(read_only=True)

image = (
    modal.Image.debian_slim(python_version=PYTHON)
    .env({"WORKER_CATALOG": "tests.workers"})
    .add_local_python_source(*SOURCE, "tests.workers", ignore=is_bytecode)
)


@app.function(
    image=image,
    secrets=[modal.Secret.from_name(SECRET, required_keys=list(SECRET_KEYS))],
    volumes={WEIGHTS_PATH: weights},
    **DEPLOYMENT.options(),
)
def run(launch: dict[str, Any]) -> dict[str, Any]:
    """Run one attempt of one job."""
    from modal_workers.runtime import modal_entry

    return modal_entry.run(launch, modal.current_function_call_id())
