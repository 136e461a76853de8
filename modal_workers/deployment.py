"""Deployment of a worker on Modal: resources, versions and source, derived from its declaration."""

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
from kit.source_version import source_version
from modal_workers.settings import DeploymentSettings

FUNCTION: Final = "run"
#: Modal secret with the bucket's address and keys, as kit/settings.py reads them.
SECRET: Final = "saccade-bucket"  # noqa: S105 - its name
SECRET_KEYS: Final = ("S3_ENDPOINT_URL", "S3_BUCKET", "S3_ACCESS_KEY_ID", "S3_SECRET_ACCESS_KEY")
PYTHON: Final = "3.11"
#: Modal's timeout comes this much later than the dispatcher's, which ends an attempt with a reason.
_TIMEOUT_MARGIN_S: Final = 10
#: Packages of our source in an image: no services, no simulators.
SOURCE: Final = ("contracts", "kit", "modal_workers")
_CONSTRAINTS: Final = "constraints.txt"
_ROOT: Final = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class CacheVolume:
    """Modal Volume used as a cache of bucket files between stages: one folder per job."""

    name: str
    path: str

    def environment(self) -> dict[str, str]:
        """Return the worker's settings of the cache: mount path and retention in hours."""
        hours = DeploymentSettings().cache_hours
        return {"WORKER_CACHE_FOLDER": self.path, "MODAL_VOLUME_CLEANUP_HOURS": f"{hours:g}"}


#: The name is the replaced system's; an existing volume is used as it is, whatever else it holds.
CACHE: Final = CacheVolume("nerf-data", "/nerf-data")


@dataclass(frozen=True)
class Deployment:
    """One worker as a Modal app."""

    app_name: str
    function_name: str
    gpus: tuple[str, ...]
    cpu_cores: float
    memory_mib: int
    timeout_s: int
    startup_timeout_s: int
    is_warm: bool = False

    @classmethod
    def of(cls, workload: Workload, environment: Environment | None = None) -> Deployment:
        """Return the resources of a workload; its GPU ladder starts as ``environment`` says (default: ENVIRONMENT)."""
        compute = workload.compute
        return cls(
            app_name=app_name(workload.name),
            function_name=function_name(workload.name),
            gpus=gpu_ladder(compute.gpus, environment or DeploymentSettings().environment) if compute.gpus else (),
            cpu_cores=compute.cpu_cores,
            memory_mib=ceil(compute.memory_bytes / MIB) + 512,
            timeout_s=ceil(compute.timeout_s) + _TIMEOUT_MARGIN_S,
            startup_timeout_s=ceil(compute.start_timeout_s),
            is_warm=DeploymentSettings().is_warm(workload.name),
        )

    def options(self) -> dict[str, Any]:
        """Return the plain arguments of ``App.function``."""
        return {
            "name": self.function_name,
            # A warm container is on the first rung: what waits is billed, so it has to be the GPU that is used.
            "gpu": list(self.gpus[:1] if self.is_warm else self.gpus) or None,
            "cpu": self.cpu_cores,
            "memory": self.memory_mib,
            "timeout": self.timeout_s,
            "startup_timeout": self.startup_timeout_s,
            # The dispatcher retries: it knows the reason, the rung and the cost.
            "retries": 0,
            # A container ends with its run: no file of one tenant's job reaches the next one's, and no idle second is
            # billed that is missing in the job's cost. A warm one is no exception: it has served nobody, ends with its
            # first run, and Modal starts another; its idle time is an operator's cost, named in every estimate.
            "single_use_containers": True,
            "min_containers": 1 if self.is_warm else None,
            "restrict_modal_access": True,
            # Only the packages that images.py names are uploaded, so that a missing one fails at once.
            "include_source": False,
        }


def deployed_version() -> str:
    """Return the version of this checkout's workers, the tag of their deployments: `saccade doctor` compares both."""
    return source_version(SOURCE, _CONSTRAINTS)


def warm_device(workload: Workload, environment: Environment | None = None) -> str | None:
    """Return the device on which Modal keeps a container of a workload started; None if it keeps none."""
    # Asked for every run of an estimate, and next to always None: the rest of a deployment reads its settings anew.
    if not DeploymentSettings().is_warm(workload.name):
        return None
    gpus = Deployment.of(workload, environment).gpus
    return gpus[0] if gpus else "cpu"


def app_name(workload: str) -> str:
    """Return the name of a workload's Modal app; ``MODAL_APP_NAMES`` may name another."""
    named = DeploymentSettings().name_of(workload)
    return named[0] if named else f"saccade-{workload.replace('_', '-')}"


def function_name(workload: str) -> str:
    """Return the name of the function in a workload's Modal app."""
    named = DeploymentSettings().name_of(workload)
    return (named and named[1]) or FUNCTION


def requirements(extra: str) -> list[str]:
    """Return the direct packages of an extra of pyproject.toml, each at the version in constraints.txt.

    A container has neither file: there the list is empty and not used.

    Raises:
        ValueError: constraints.txt does not pin one of them.
    """
    if not (_ROOT / "pyproject.toml").exists():
        return []
    extras = tomllib.loads((_ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    lines = [line.partition(";")[0].strip().partition("==") for line in constraints().read_text().splitlines()]
    versions = {name: version for name, _, version in lines}
    wanted = dict.fromkeys(["pydantic", *_package_names(extras, extra)])
    if missing := [name for name in wanted if not versions.get(name.partition("[")[0])]:
        raise ValueError(f"{_CONSTRAINTS} does not pin {', '.join(missing)}")
    return [f"{name}=={versions[name.partition('[')[0]]}" for name in wanted]


def _package_names(extras: dict[str, list[str]], extra: str) -> list[str]:
    found: list[str] = []
    for requirement in extras[extra]:
        inner = re.fullmatch(r"saccade-server\[(.+)\]", requirement)
        if inner:
            found += [name for other in inner[1].split(",") for name in _package_names(extras, other)]
        else:
            name = re.match(r"[A-Za-z0-9._-]+(\[[^\]]+\])?", requirement)
            assert name
            found.append(name[0])
    return found


def uv_version() -> str | None:
    """Return the version of uv that builds images; None in a container, which builds none."""
    if not constraints().exists():
        return None
    return next(line.partition("==")[2] for line in constraints().read_text().splitlines() if line.startswith("uv=="))


def constraints() -> Path:
    """Return the path of constraints.txt, which pins every package."""
    return _ROOT / _CONSTRAINTS


def is_bytecode(path: Path) -> bool:
    """Return whether a file is compiled by Python and therefore excluded from an image."""
    return "__pycache__" in path.parts or path.suffix == ".pyc"
