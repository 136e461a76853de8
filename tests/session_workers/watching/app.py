"""Modal app of the watching worker. Its image installs nothing: the tests' own environment runs it."""

from __future__ import annotations

from typing import Any

import modal

from modal_workers.deployment import PYTHON, SECRET, SECRET_KEYS, SOURCE, Deployment, is_bytecode
from tests.session_workers.watching.spec import WORKLOAD

DEPLOYMENT = Deployment.of(WORKLOAD)

app = modal.App(DEPLOYMENT.app_name)

image = (
    modal.Image.debian_slim(python_version=PYTHON)
    .env({"WORKER_CATALOG": "tests.session_workers"})
    .add_local_python_source(*SOURCE, "tests.session_workers", ignore=is_bytecode)
)


@app.function(
    image=image,
    secrets=[modal.Secret.from_name(SECRET, required_keys=list(SECRET_KEYS))],
    **DEPLOYMENT.options(),
)
def run(launch: dict[str, Any]) -> dict[str, Any]:
    """Run one attempt of one session."""
    from modal_workers.runtime import modal_entry

    return modal_entry.run(launch, modal.current_function_call_id())
