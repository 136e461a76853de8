"""Modal images of the workers, and what their functions mount: one recipe per kind of worker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Final

import modal

from modal_workers.deployment import (
    CACHE,
    PYTHON,
    SECRET,
    SECRET_KEYS,
    SOURCE,
    constraints,
    is_bytecode,
    requirements,
    uv_version,
)

#: Idle OpenMP threads sleep instead of spinning (measured: ten times slower without, on a busy machine).
_ENVIRONMENT: Final = {"OMP_WAIT_POLICY": "PASSIVE"}
_CUDA_IMAGE: Final = "nvidia/cuda:12.8.1-devel-ubuntu22.04"
_CUDA_TORCH: Final = "torch==2.10.0"
_CUDA_TORCHVISION: Final = "torchvision==0.25.0"
_GSPLAT: Final = "gsplat==1.5.3"
#: Compute capabilities of T4, A100 and A10.
_CUDA_ARCHITECTURES: Final = "7.5;8.0;8.6"
#: Files of a model that are used: no pickles, and no weights of other frameworks.
_WEIGHTS: Final = "--include '*.json' --include '*.jinja' --include '*.safetensors' --include tokenizer.model"


def slim(extra: str, environment: Mapping[str, str] | None = None, *packages: str) -> modal.Image:
    """Return a Debian image for the CPU with an extra of pyproject.toml at the pinned versions.

    ``packages`` are Python packages with workers outside ``modal_workers``.
    """
    image = _with_extra(modal.Image.debian_slim(python_version=PYTHON), extra)
    return _with_source(image.env(_ENVIRONMENT | dict(environment or {})), *packages)


def gsplat(environment: Mapping[str, str] | None = None) -> modal.Image:
    """Return a CUDA image with the extra ``splat`` and gsplat, compiled for the GPUs of the ladder.

    Compiled in the image, because gsplat otherwise compiles for minutes at its first use. torch is the newest for CUDA
    12.8; constraints.txt does not apply, because it pins torch for machines without CUDA.
    """
    packages = [name for name in requirements("splat") if not name.startswith("torch==")]
    return _with_source(
        modal.Image.from_registry(_CUDA_IMAGE, add_python=PYTHON)
        .uv_pip_install(*packages, _CUDA_TORCH, uv_version=uv_version())
        .env({"TORCH_CUDA_ARCH_LIST": _CUDA_ARCHITECTURES} | _ENVIRONMENT | dict(environment or {}))
        .uv_pip_install(_GSPLAT, extra_options="--no-build-isolation", uv_version=uv_version())
    )


def ultralytics(weights: Sequence[str], folder: str, environment: Mapping[str, str] | None = None) -> modal.Image:
    """Return a CUDA image with ultralytics (AGPL-3.0: see NOTICE) and its models ``weights`` in ``folder``.

    The models are downloaded when the image is built, never at run time. torch is the newest for CUDA 12.8, with the
    torchvision that belongs to it.
    """
    packages = [name for name in requirements("badminton-yolo") if not name.startswith("torch==")]
    commands = [f"mkdir -p {folder}"]
    commands += [f"cd {folder} && python -c \"from ultralytics import YOLO; YOLO('{name}')\"" for name in weights]
    image = (
        modal.Image.debian_slim(python_version=PYTHON)
        .uv_pip_install(*packages, _CUDA_TORCH, _CUDA_TORCHVISION, uv_version=uv_version())
        .run_commands(*commands)
    )
    return _with_source(image.env(_ENVIRONMENT | dict(environment or {})))


def vision(
    models: Sequence[str], folder: str, secret: str, vllm_version: str, environment: Mapping[str, str]
) -> modal.Image:
    """Return a CUDA image with the extra ``vision-stream`` and the weights of ``models`` of the hub in ``folder``.

    The weights are downloaded when the image is built, with ``HF_TOKEN`` from a Modal secret, never at run time: no
    container has the token. torch is the newest for CUDA 12.8; vllm, if it is wanted, determines its own.
    """
    pinned = ("torch==", "transformers==") if vllm_version else ("torch==",)
    packages = [name for name in requirements("vision-stream") if not name.startswith(pinned)]
    packages += [f"vllm=={vllm_version}"] if vllm_version else [_CUDA_TORCH]
    image = modal.Image.debian_slim(python_version=PYTHON).uv_pip_install(*packages, uv_version=uv_version())
    if models:
        image = image.run_commands(
            *(f"hf download {name} --local-dir {folder}/{name} {_WEIGHTS}" for name in models),
            secrets=[modal.Secret.from_name(secret, required_keys=["HF_TOKEN"])],
        )
    return _with_source(image.env(_ENVIRONMENT | dict(environment)))


def nerfstudio(
    base_image: str,
    system_packages: Sequence[str],
    commands: Sequence[str],
    environment: Mapping[str, str] | None = None,
) -> modal.Image:
    """Return an image with nerfstudio in a Python environment of its own, and the extra ``splat`` in ours."""
    image = modal.Image.from_registry(base_image, add_python=PYTHON).apt_install(*system_packages)
    image = _with_extra(image.run_commands(*commands), "splat")
    return _with_source(image.env(_ENVIRONMENT | dict(environment or {})))


def bucket_secrets() -> list[modal.Secret]:
    """Return the secret with the bucket's address and keys."""
    return [modal.Secret.from_name(SECRET, required_keys=list(SECRET_KEYS))]


def cache_volumes() -> dict[str | PurePosixPath, modal.Volume | modal.CloudBucketMount]:
    """Return the volume of ``deployment.CACHE`` at its mount path."""
    return {CACHE.path: modal.Volume.from_name(CACHE.name, create_if_missing=True)}


def _with_extra(image: modal.Image, extra: str) -> modal.Image:
    return image.add_local_file(constraints(), "/constraints.txt", copy=True).uv_pip_install(
        *requirements(extra), extra_options="--constraints /constraints.txt", uv_version=uv_version()
    )


def _with_source(image: modal.Image, *packages: str) -> modal.Image:
    """Add our source, last: it is mounted when a container starts, so a change of it builds no image."""
    return image.add_local_python_source(*SOURCE, *packages, ignore=is_bytecode)
