"""``saccade modal`` in a process of its own, connected to the stand-in for Modal."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from kit.settings import inherited_environment
from tests.harness.servers.loopback_tls import ONE_AUTHORITY
from tests.modal_loopback import Loopback
from tests.rules.tree import ROOT

BUCKET = {
    "S3_ENDPOINT_URL": "https://s3.example",
    "S3_BUCKET": "pictures",
    "S3_ACCESS_KEY_ID": "key-id-7",
    "S3_SECRET_ACCESS_KEY": "a secret that is shown to nobody",
}
SPEC = """
from contracts.workload import Compute, Params, Result, Workload
WORKLOAD = Workload(
    name="{name}", title="", description="", version="1", params=Params, result=Result, inputs=(), stages=(),
    job="tests.workers.scripted.job:run", compute=Compute(gpus={gpus}),
)
"""


@dataclass
class Command:
    """``saccade modal`` in a separate process, connected to one loopback."""

    loopback: Loopback
    home: Path

    def __call__(
        self, *words: str, catalog: str = "tests.workers", **variables: str
    ) -> subprocess.CompletedProcess[str]:
        if words[0] == "deploy" and "--check" not in words:
            words = (*words, "--no-check")  # it would start a container of every worker
        own = {"HOME": str(self.home), "WORKER_CATALOG": catalog, "PYTHONPATH": f"{ROOT}{os.pathsep}{self.home}"}
        own |= ONE_AUTHORITY
        return subprocess.run(
            [sys.executable, "-m", "cli", "modal", *words],
            env=inherited_environment(("PATH", "LANG")) | own | self.loopback.environment | variables,
            cwd=self.home,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )

    def worker(self, package: str, name: str, *, gpus: tuple[str, ...] = (), app: str | None = None) -> None:
        """Write a user's own worker."""
        (folder := self.home / package / name).mkdir(parents=True)
        (folder.parent / "__init__.py").touch()
        (folder / "__init__.py").touch()
        (folder / "spec.py").write_text(SPEC.format(name=name, gpus=repr(gpus)))
        if app is not None:
            (folder / "app.py").write_text(app)
