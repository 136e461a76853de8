"""Modal app of the rendering by nerfstudio; the work is ``job.py``."""

from __future__ import annotations

from typing import Any

import modal

from modal_workers import images
from modal_workers.deployment import CACHE, Deployment, uv_version
from modal_workers.nerf.nerfstudio.commands import BASE_IMAGE, SYSTEM_PACKAGES, image_commands
from modal_workers.nerf.rendering_nerfstudio.spec import WORKLOAD

DEPLOYMENT = Deployment.of(WORKLOAD)

app = modal.App(DEPLOYMENT.app_name)


@app.function(
    image=images.nerfstudio(BASE_IMAGE, SYSTEM_PACKAGES, image_commands(uv_version()), CACHE.environment()),
    secrets=images.bucket_secrets(),
    volumes=images.cache_volumes(),
    **DEPLOYMENT.options(),
)
def run(launch: dict[str, Any]) -> dict[str, Any]:
    """Run one attempt of one job."""
    from modal_workers.runtime import modal_entry  # noqa: PLC0415 - not needed where it is deployed from

    return modal_entry.run(launch, modal.current_function_call_id())
