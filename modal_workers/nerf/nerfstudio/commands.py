"""nerfstudio as an external program: image build commands, command lines, and its execution; never imported here.

Version 1.1.5 needs numpy 1, OpenCV 4.10 and a PyTorch of 2023, so it has a Python environment of its own. Source:
https://github.com/nerfstudio-project/nerfstudio, Dockerfile and documentation of that version.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from queue import Empty, Queue
from typing import Final

from contracts.errors import ErrorCode, SaccadeError
from modal_workers.nerf.params import NERFSTUDIO_HOME, NerfParams

VERSION: Final = "1.1.5"
BASE_IMAGE: Final = "nvidia/cuda:11.8.0-devel-ubuntu22.04"
SYSTEM_PACKAGES: Final = ("build-essential", "git", "libgl1", "libglib2.0-0")
RUN_NAME: Final = "run"
_ITERATIONS: Final = {"draft": 5_000, "standard": 15_000, "best": 30_000}
#: About half a minute on a T4.
SAVE_EVERY: Final = 500
_TICK_S: Final = 0.5
_KILL_S: Final = 10.0
_KEPT_LINES: Final = 200
_ENVIRONMENT: Final = ("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=1", "PYTHONUNBUFFERED=1", "TERM=dumb")


def image_commands(uv_version: str | None) -> list[str]:
    """Return the build commands that install nerfstudio in its own environment, every version pinned.

    setuptools is limited for the build of tiny-cuda-nn. The weights of nerfstudio's metrics are downloaded here,
    because a worker may have no internet access.
    """
    install = f"uv pip install --python {NERFSTUDIO_HOME}/bin/python"
    torch = "torch==2.1.2 torchvision==0.16.2"
    tiny = "git+https://github.com/NVlabs/tiny-cuda-nn.git@b3473c8#subdirectory=bindings/torch"
    lpips = "from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity as L; L(normalize=True)"
    return [
        f"python -m pip install uv=={uv_version}",
        f"uv venv --python 3.10 {NERFSTUDIO_HOME}",
        f"{install} 'setuptools<70' wheel ninja 'numpy<2'",
        f"{install} {torch} --torch-backend=cu118",
        f"TCNN_CUDA_ARCHITECTURES='75;80;86' {install} --no-build-isolation '{tiny}'",
        f"{install} nerfstudio=={VERSION} 'numpy<2'",
        f"{NERFSTUDIO_HOME}/bin/python -c '{lpips}'",
    ]


def iterations(params: NerfParams) -> int:
    """Return the number of training steps of nerfacto."""
    return params.iterations or _ITERATIONS[params.preset]


def train_command(home: Path, data: Path, runs: Path, params: NerfParams, *, resume: bool) -> list[str]:
    """Return the command that trains nerfacto on a folder with transforms.json.

    A random background per ray is required for a correct alpha: with the default, the last sample, everything is
    opaque. Poses are used unchanged, neither oriented nor scaled nor refined, so that our orbit fits.
    """
    command = [
        str(home / "bin/ns-train"),
        "nerfacto",
        *("--output-dir", str(runs)),
        *("--experiment-name", "saccade"),
        *("--timestamp", RUN_NAME),
        *("--vis", "tensorboard"),
        *("--machine.seed", str(params.seed)),
        *("--max-num-iterations", str(iterations(params))),
        *("--steps-per-save", str(SAVE_EVERY)),
        *("--save-only-latest-checkpoint", "True"),
        *("--pipeline.model.background-color", "random"),
        *("--pipeline.model.camera-optimizer.mode", "off"),
    ]
    if resume:
        command += ["--load-dir", str(models_folder(runs))]
    return [
        *command,
        "nerfstudio-data",
        *("--data", str(data)),
        *("--orientation-method", "none"),
        *("--center-method", "none"),
        *("--auto-scale-poses", "False"),
        *("--downscale-factor", "1"),
        *("--eval-mode", "interval"),
        *("--eval-interval", "8"),
    ]


def evaluate_command(home: Path, runs: Path, output: Path) -> list[str]:
    """Return the command that scores the held-out photos."""
    config = run_folder(runs) / "config.yml"
    return [str(home / "bin/ns-eval"), "--load-config", str(config), "--output-path", str(output)]


def run_folder(runs: Path) -> Path:
    """Return the folder of a nerfstudio run."""
    return runs / "saccade" / "nerfacto" / RUN_NAME


def models_folder(runs: Path) -> Path:
    """Return the checkpoint folder of a nerfstudio run."""
    return run_folder(runs) / "nerfstudio_models"


def require_nerfstudio(home: Path) -> None:
    """Raise where nerfstudio is not installed.

    Raises:
        SaccadeError: BACKEND_NOT_INSTALLED.
    """
    if not (home / "bin/ns-train").exists():
        raise SaccadeError(
            ErrorCode.BACKEND_NOT_INSTALLED,
            "nerfstudio is not installed where this worker runs.",
            hint="Leave backend at gsplat, or run on Modal: the image of these stages has nerfstudio.",
        )


def run_program(command: list[str], folder: Path, tick: Callable[[], None]) -> Iterator[str]:
    """Run a program and yield its output lines; ``tick`` is called twice per second and may raise to stop it.

    PyTorch is told to load checkpoints that contain code: since 2.6 it refuses them by default, and these are our own.

    Raises:
        SaccadeError: OUT_OF_MEMORY, where that was the reason; otherwise WORKER_BROKEN, with the last line.
    """
    process = subprocess.Popen(
        ["/usr/bin/env", *_ENVIRONMENT, *command],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    assert process.stdout is not None
    lines: Queue[str | None] = Queue()
    reader = threading.Thread(target=_read, args=(process.stdout, lines), daemon=True)
    reader.start()
    last: deque[str] = deque(maxlen=_KEPT_LINES)
    last_tick_s = 0.0
    try:
        while True:
            if time.monotonic() - last_tick_s >= _TICK_S:
                tick()
                last_tick_s = time.monotonic()
            try:
                line = lines.get(timeout=_TICK_S)
            except Empty:
                continue
            if line is None:
                break
            last.append(line)
            yield line
        _check_exit(process.wait(), last)
    finally:
        _kill(process)
        reader.join(_KILL_S)
        process.stdout.close()


def _read(source: Iterator[str], lines: Queue[str | None]) -> None:
    with suppress(ValueError):  # closed in the middle of a line
        for line in source:
            lines.put(line.rstrip())
    lines.put(None)


def _check_exit(code: int, last: deque[str]) -> None:
    if code == 0:
        return
    output = "\n".join(last)
    if "OutOfMemoryError" in output or "CUDA out of memory" in output:
        raise SaccadeError(ErrorCode.OUT_OF_MEMORY, "nerfstudio ran out of GPU memory.")
    reason = next((line.strip() for line in reversed(last) if line.strip()), "no output")
    raise SaccadeError(ErrorCode.WORKER_BROKEN, f"nerfstudio exited with code {code}: {reason[:200]}")


def _kill(process: subprocess.Popen[str]) -> None:
    """Kill the program and everything it started: data loaders are processes of their own."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_KILL_S)
            return
