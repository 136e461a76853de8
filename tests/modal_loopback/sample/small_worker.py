"""Small app for tests of the loopback: it uses every feature that a worker uses."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import modal

app = modal.App("small-worker")
image = (
    modal.Image.debian_slim(python_version="3.11")
    .uv_pip_install("numpy==2.1.0")
    .env({"WEIGHTS": "a folder", "PLACE": "/weights/of/ours"})
    .add_local_python_source("small_source")
)


@app.function(
    image=image,
    cpu=2,
    memory=1024,
    gpu=["T4", "A10"],
    timeout=60,
    startup_timeout=30,
    retries=0,
    restrict_modal_access=True,
    single_use_containers=True,
    volumes={"/weights": modal.Volume.from_name("weights", create_if_missing=True, version=2)},
    secrets=[modal.Secret.from_name("bucket", required_keys=["S3_KEY"])],
)
def run(launch: dict[str, Any]) -> Any:
    """Run the action that the launch names."""
    import small_source

    return getattr(small_source, launch["do"])(launch)


@app.function(image=image, restrict_modal_access=True, single_use_containers=True)
async def wait(launch: dict[str, Any]) -> dict[str, str]:
    """Wait at the first run; end at once at the second."""
    started = Path(launch["folder"]) / "started.json"
    if not started.exists():
        started.write_text("[]")
        await asyncio.sleep(300)
    return {"run": "again"}
