"""What a dispatcher says that its workers have."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from modal_workers.catalog import workload, workloads
from modal_workers.nerf.params import NERFSTUDIO_PROGRAM
from services.dispatcher.executors.installed_backends import installed_backends, is_installed
from services.dispatcher.settings import DispatcherSettings
from tests.lacking_workers.lacking.spec import ABSENT
from tests.lacking_workers.lacking.spec import WORKLOAD as LACKING


def test_local_workers_have_what_this_python_has() -> None:
    found = installed_backends(DispatcherSettings(), [*workloads().values(), LACKING])
    assert {"cv2", "pi_heif", "pycolmap", "torch"} <= set(found)
    assert ABSENT not in found
    assert found == sorted(found)


def test_on_modal_every_image_has_what_its_worker_requires() -> None:
    found = installed_backends(DispatcherSettings(executor="modal"), workloads().values())
    assert NERFSTUDIO_PROGRAM in found
    assert {option.package for option in workload("lap_compare").backends}.isdisjoint(found)


def test_the_replaced_systems_setting_keeps_workers_on_this_machine() -> None:
    settings = DispatcherSettings(executor="modal", mock_modal=True)
    assert installed_backends(settings, [LACKING]) == ["json"]


def test_a_program_is_named_by_its_path(tmp_path: Path) -> None:
    program = tmp_path / "ns-train"
    assert not is_installed(str(program))
    program.touch(mode=0o755)
    assert is_installed(str(program))


def test_looking_imports_nothing() -> None:
    code = (
        "import sys; from modal_workers.catalog import workloads; from services.dispatcher.settings import *; "
        "from services.dispatcher.executors.installed_backends import installed_backends; "
        "found = installed_backends(DispatcherSettings(), workloads().values()); "
        "assert 'torch' in found, found; assert not {'torch', 'cv2', 'numpy', 'pi_heif', 'pycolmap'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
