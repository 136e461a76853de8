"""Actual device of a worker, from the output of nvidia-smi."""

from __future__ import annotations

from pathlib import Path

import pytest

from contracts.prices import PRICES
from modal_workers.runtime.device import actual_device, gpu_name

PRODUCTS = {
    "Tesla T4": "T4",
    "NVIDIA L4": "L4",
    "NVIDIA L40S": "L40S",
    "NVIDIA A10": "A10",
    "NVIDIA A10G": "A10",
    "NVIDIA A100-SXM4-40GB": "A100-40GB",
    "NVIDIA A100-PCIE-40GB": "A100-40GB",
    "NVIDIA A100-SXM4-80GB": "A100-80GB",
    "NVIDIA A100 80GB PCIe": "A100-80GB",
    "NVIDIA H100 80GB HBM3": "H100",
    "NVIDIA H100 NVL": "H100",
    "NVIDIA H200": "H200",
    "NVIDIA B200": "B200",
}


@pytest.mark.parametrize("product", list(PRODUCTS))
def test_a_product_maps_to_the_name_in_the_price_table(product: str) -> None:
    assert gpu_name(product) == PRODUCTS[product]


def test_every_gpu_with_a_price_is_recognised() -> None:
    assert set(PRODUCTS.values()) == PRICES.keys() - {"local", "cpu"}


@pytest.mark.parametrize("product", ["", "NVIDIA GeForce RTX 4090", "NVIDIA A1000", "NVIDIA GH200 480GB", "Tesla V100"])
def test_an_unknown_product_has_no_name(product: str) -> None:
    assert gpu_name(product) is None


def _nvidia_smi(folder: Path, body: str) -> None:
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{body}\n")
    program.chmod(0o755)


@pytest.mark.parametrize(
    ("body", "requested", "expected"),
    [
        ("echo NVIDIA A100-SXM4-80GB", "A100-40GB", "A100-80GB"),
        ("echo NVIDIA H200; echo NVIDIA H200", "H100", "H200"),
        ("echo NVIDIA A100-SXM4-80GB", "cpu", "cpu"),
        ("echo Something new", "A10", "A10"),
        ("echo 'No devices were found'; exit 6", "T4", "T4"),
        ("true", "T4", "T4"),
    ],
)
def test_the_actual_device_is_reported_or_the_requested_one_if_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, requested: str, expected: str
) -> None:
    _nvidia_smi(tmp_path, body)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert actual_device(requested) == expected


def test_a_machine_without_nvidia_smi_reports_the_requested_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert actual_device("A10") == "A10"
