"""The exhibit on Modal: its image and what it asks for; the work is ``job.py``."""

from __future__ import annotations

from typing import Any

import modal

from modal_workers.deployment import (
    CACHE,
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
from modal_workers.nerf.report.spec import WORKLOAD

DEPLOYMENT = Deployment.of(WORKLOAD)

app = modal.App(DEPLOYMENT.app_name)

# Pages and pictures of what is there; PyTorch on the CPU draws a few photos that the model never saw.
image = (
    modal.Image.debian_slim(python_version=PYTHON)
    .add_local_file(constraints(), "/constraints.txt", copy=True)
    .uv_pip_install(*requirements("nerf"), extra_options="--constraints /constraints.txt", uv_version=uv_version())
    .env({"OMP_WAIT_POLICY": "PASSIVE"} | CACHE.environment())
    .add_local_python_source(*SOURCE, ignore=left_out)
)


@app.function(
    image=image,
    secrets=[modal.Secret.from_name(SECRET, required_keys=list(SECRET_KEYS))],
    volumes={CACHE.path: modal.Volume.from_name(CACHE.name, create_if_missing=True)},
    **DEPLOYMENT.options(),
)
def run(launch: dict[str, Any]) -> dict[str, Any]:
    """Do one attempt of one job."""
    from modal_workers.runtime import modal_entry  # noqa: PLC0415 - not where it is deployed from

    return modal_entry.run(launch, modal.current_function_call_id())
