"""The lap comparison on Modal: its image and what it asks for; the work is ``job.py``."""

from __future__ import annotations

from typing import Any

import modal

from modal_workers.deployment import (
    PYTHON,
    SECRET,
    SECRET_KEYS,
    SOURCE,
    Deployment,
    constraints,
    left_out,
    requirements,
    uv_version,
)
from modal_workers.lap_compare.spec import WORKLOAD

DEPLOYMENT = Deployment.of(WORKLOAD)

app = modal.App(DEPLOYMENT.app_name)

# Our own source comes last: it is mounted when a container starts, and no image is built when it changes.
image = (
    modal.Image.debian_slim(python_version=PYTHON)
    .add_local_file(constraints(), "/constraints.txt", copy=True)
    .uv_pip_install(
        *requirements("lap-compare"), extra_options="--constraints /constraints.txt", uv_version=uv_version()
    )
    .env({"OMP_WAIT_POLICY": "PASSIVE"})
    .add_local_python_source(*SOURCE, ignore=left_out)
)


@app.function(
    image=image,
    secrets=[modal.Secret.from_name(SECRET, required_keys=list(SECRET_KEYS))],
    **DEPLOYMENT.options(),
)
def run(launch: dict[str, Any]) -> dict[str, Any]:
    """Do one attempt of one job."""
    from modal_workers.runtime import modal_entry  # noqa: PLC0415 - not where it is deployed from

    return modal_entry.run(launch, modal.current_function_call_id())
