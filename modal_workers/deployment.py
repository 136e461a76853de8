"""What a worker asks Modal for, worked out from its declaration; ``app.py`` of each worker only passes it on."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any, Final

from contracts.gpu_ladder import Environment, gpu_ladder
from contracts.limits import MIB
from contracts.workload import Workload
from modal_workers.settings import DeploymentSettings

FUNCTION: Final = "run"
#: The bucket's place and keys, as the worker reads them (kit/settings.py).
SECRET: Final = "saccade-bucket"  # noqa: S105 - its name
SECRET_KEYS: Final = ("S3_ENDPOINT_URL", "S3_BUCKET", "S3_ACCESS_KEY_ID", "S3_SECRET_ACCESS_KEY")
#: Weights that workers only read, where each expects its own folder.
WEIGHTS_VOLUME: Final = "saccade-weights"
WEIGHTS_PATH: Final = "/weights"
PYTHON: Final = "3.11"
#: The dispatcher ends an attempt at its limit and says why; Modal ends what the dispatcher could not, a little later.
_LATER_S: Final = 10
#: What of our source a worker needs. The services but the kit stay at home.
SOURCE: Final = ("contracts", "kit", "modal_workers")
_AT_HOME: Final = ("gateway", "dispatcher", "notifier")
_CONSTRAINTS: Final = "constraints.txt"
_ROOT: Final = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class CacheVolume:
    """A Volume on which stages keep, beside the bucket, what later ones want: a folder for each job."""

    name: str
    path: str

    def environment(self) -> dict[str, str]:
        """Tell a worker where it is mounted, and for how long things stay there."""
        hours = DeploymentSettings().cache_hours
        return {"WORKER_CACHE_FOLDER": self.path, "MODAL_VOLUME_CLEANUP_HOURS": f"{hours:g}"}


#: The replaced system's name. One that is there already is taken as it is, whatever else lies on it.
CACHE: Final = CacheVolume("nerf-data", "/nerf-data")


@dataclass(frozen=True)
class Deployment:
    """One worker as a Modal app."""

    app_name: str
    gpus: tuple[str, ...]
    cpu_cores: float
    memory_mib: int
    timeout_s: int
    startup_timeout_s: int

    @classmethod
    def of(cls, workload: Workload, environment: Environment | None = None) -> Deployment:
        """Work out what a workload needs; ``environment`` (by default ``ENVIRONMENT``) says where its ladder begins."""
        compute = workload.compute
        return cls(
            app_name=app_name(workload.name),
            gpus=gpu_ladder(compute.gpus, environment or DeploymentSettings().environment) if compute.gpus else (),
            cpu_cores=compute.cpu_cores,
            memory_mib=ceil(compute.memory_bytes / MIB) + 512,
            timeout_s=ceil(compute.timeout_s) + _LATER_S,
            startup_timeout_s=ceil(compute.start_timeout_s),
        )

    def options(self) -> dict[str, Any]:
        """Give the plain arguments of ``App.function``."""
        return {
            "name": FUNCTION,
            "gpu": list(self.gpus) or None,
            "cpu": self.cpu_cores,
            "memory": self.memory_mib,
            "timeout": self.timeout_s,
            "startup_timeout": self.startup_timeout_s,
            # The dispatcher tries again: it knows why, on which rung, and at what cost.
            "retries": 0,
            # A container ends with its run: nothing of one tenant's job lies about in the next one's, and no second is
            # paid for in which nobody works and that no job's cost tells of.
            "single_use_containers": True,
            "restrict_modal_access": True,
            # Only what app.py names goes up, so that a package it forgot is missed at once.
            "include_source": False,
        }


def app_name(workload: str) -> str:
    """Name the Modal app of a workload."""
    return f"saccade-{workload.replace('_', '-')}"


def requirements(extra: str) -> list[str]:
    """Give what an extra of pyproject.toml installs directly, each at the version of constraints.txt.

    Only where the worker is deployed from: a container has neither file, and gets an empty list.

    Raises:
        ValueError: constraints.txt does not pin one of them.
    """
    if not (_ROOT / "pyproject.toml").exists():
        return []
    extras = tomllib.loads((_ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    lines = [line.partition(";")[0].strip().partition("==") for line in constraints().read_text().splitlines()]
    versions = {name: version for name, _, version in lines}
    wanted = dict.fromkeys(["pydantic", *_named(extras, extra)])
    if missing := [name for name in wanted if not versions.get(name.partition("[")[0])]:
        raise ValueError(f"{_CONSTRAINTS} does not pin {', '.join(missing)}")
    return [f"{name}=={versions[name.partition('[')[0]]}" for name in wanted]


def _named(extras: dict[str, list[str]], extra: str) -> list[str]:
    found: list[str] = []
    for one in extras[extra]:
        inner = re.fullmatch(r"saccade\[(.+)\]", one)
        if inner:
            found += [name for other in inner[1].split(",") for name in _named(extras, other)]
        else:
            name = re.match(r"[A-Za-z0-9._-]+(\[[^\]]+\])?", one)
            assert name
            found.append(name[0])
    return found


def uv_version() -> str | None:
    """Give the version of uv that images are built with; None in a container, which builds none."""
    if not constraints().exists():
        return None
    return next(line.partition("==")[2] for line in constraints().read_text().splitlines() if line.startswith("uv=="))


def constraints() -> Path:
    """Name the file with the exact version of everything."""
    return _ROOT / _CONSTRAINTS


def left_out(path: Path) -> bool:
    """Tell whether a file of our source stays at home: other services, tests' leavings, what Python compiled."""
    parts = path.parts
    return "__pycache__" in parts or path.suffix == ".pyc" or bool({*parts} & {*_AT_HOME})
