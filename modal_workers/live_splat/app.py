"""The live splat on Modal: its image and what it asks for; the work is ``session.py``."""

from __future__ import annotations

from typing import Any

import modal

from modal_workers.deployment import (
    PYTHON,
    SECRET,
    SECRET_KEYS,
    SOURCE,
    Deployment,
    left_out,
    requirements,
    uv_version,
)
from modal_workers.live_splat.spec import WORKLOAD

DEPLOYMENT = Deployment.of(WORKLOAD)

app = modal.App(DEPLOYMENT.app_name)

# gsplat is compiled here, for the ladder's GPUs, with the newest torch that CUDA 12.8 has: otherwise it compiles for
# minutes at its first use. Not held to constraints.txt, which pins torch for machines without CUDA.
image = (
    modal.Image.from_registry("nvidia/cuda:12.8.1-devel-ubuntu22.04", add_python=PYTHON)
    .uv_pip_install(
        *(name for name in requirements("splat") if not name.startswith("torch==")),
        "torch==2.10.0",
        uv_version=uv_version(),
    )
    .env({"TORCH_CUDA_ARCH_LIST": "7.5;8.0;8.6", "OMP_WAIT_POLICY": "PASSIVE"})
    .uv_pip_install("gsplat==1.5.3", extra_options="--no-build-isolation", uv_version=uv_version())
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
