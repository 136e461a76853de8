"""The watching worker on Modal. Its image installs nothing: tests run it on what they themselves run on."""

from __future__ import annotations

from typing import Any

import modal

from modal_workers.deployment import PYTHON, SECRET, SECRET_KEYS, SOURCE, Deployment, left_out
from tests.session_workers.watching.spec import WORKLOAD

DEPLOYMENT = Deployment.of(WORKLOAD)

app = modal.App(DEPLOYMENT.app_name)

image = (
    modal.Image.debian_slim(python_version=PYTHON)
    .env({"WORKER_CATALOG": "tests.session_workers"})
    .add_local_python_source(*SOURCE, "tests.session_workers", ignore=left_out)
)


@app.function(
    image=image,
    secrets=[modal.Secret.from_name(SECRET, required_keys=list(SECRET_KEYS))],
    **DEPLOYMENT.options(),
)
def run(launch: dict[str, Any]) -> dict[str, Any]:
    """Do one attempt of one session."""
    from modal_workers.runtime import modal_entry

    return modal_entry.run(launch, modal.current_function_call_id())
