"""Splat files: round trips, other readers, excluded splats, prefixes."""

from __future__ import annotations

import io
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from plyfile import PlyData

from modal_workers.gaussians.ply import decode_ply, encode_ply
from modal_workers.gaussians.ply_prefix import prefix
from modal_workers.gaussians.splats import Splats
from services.gateway.compat.empty_ply import EMPTY_PLY
from tests.harness.vision.gaussian_scenes import random_splats


def single(count: int, seed: int, harmonics: int = 0) -> Splats:
    return random_splats(count, seed, harmonics=harmonics, dtype=torch.float32)


def test_the_gateways_ply_without_splats_is_one_of_ours() -> None:
    assert encode_ply(Splats.empty(torch.zeros(0))).data == EMPTY_PLY
    assert len(decode_ply(EMPTY_PLY)) == 0


@pytest.mark.parametrize("harmonics", [0, 3, 8, 15])
def test_write_and_read_round_trip(harmonics: int) -> None:
    splats = single(37, 1, harmonics)
    read = decode_ply(encode_ply(splats).data)
    for name, tensor in splats.tensors().items():
        wanted = torch.nn.functional.normalize(tensor, dim=-1) if name == "quaternions" else tensor
        torch.testing.assert_close(getattr(read, name), wanted, msg=name)
    assert (read.sh_rest is None) == (harmonics == 0)


def test_another_reader_finds_the_fields() -> None:
    splats = single(20, 2, harmonics=3)
    assert splats.sh_rest is not None
    vertices = PlyData.read(io.BytesIO(encode_ply(splats).data))["vertex"]
    names = ["x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2"]
    names += [f"f_rest_{index}" for index in range(9)]
    names += ["opacity", "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"]
    assert [field.name for field in vertices.properties] == names
    assert {field.val_dtype for field in vertices.properties} == {"f4"}
    np.testing.assert_array_equal(vertices["y"], splats.means[:, 1])
    np.testing.assert_array_equal(vertices["opacity"], splats.logit_opacities)
    np.testing.assert_array_equal(vertices["scale_2"], splats.log_scales[:, 2])
    assert (vertices["rot_0"] ** 2 + vertices["rot_3"] ** 2 <= 1).all()
    # all of red, then of green, then of blue
    np.testing.assert_array_equal(vertices["f_rest_1"], splats.sh_rest[:, 1, 0])
    np.testing.assert_array_equal(vertices["f_rest_5"], splats.sh_rest[:, 2, 1])


def test_a_file_of_another_writer_is_read() -> None:
    # another order, no normals, a property that is not ours
    kinds = ["opacity", "x", "y", "z", "rot_0", "rot_1", "rot_2", "rot_3", "quality"]
    kinds += ["scale_0", "scale_1", "scale_2", "f_dc_0", "f_dc_1", "f_dc_2"]
    rows = np.arange(2 * len(kinds), dtype="<f4").reshape(2, -1)
    header = ["ply", "format binary_little_endian 1.0", "comment of another", "element vertex 2"]
    header += [f"property float {kind}" for kind in kinds]
    data = "\n".join([*header, "end_header\n"]).encode() + rows.tobytes()
    read = decode_ply(data)
    assert read.means.tolist() == [[1, 2, 3], [16, 17, 18]]
    assert read.logit_opacities.tolist() == [0, 15]
    assert read.colours.tolist() == [[12, 13, 14], [27, 28, 29]]


def test_non_finite_splats_are_excluded_and_counted() -> None:
    splats = single(12, 3)
    splats.means[2, 0] = math.nan
    splats.logit_opacities[5] = math.inf
    splats.colours[9, 2] = -math.inf
    kept = [index for index in range(12) if index not in (2, 5, 9)]
    encoded = encode_ply(splats)
    assert (encoded.splats, encoded.left_out) == (9, 3)
    assert torch.equal(decode_ply(encoded.data).means, splats.means[kept])
    assert encode_ply(Splats.empty()).splats == len(decode_ply(encode_ply(Splats.empty()).data)) == 0


@pytest.mark.parametrize("count", [0, 1, 17, 40, 1000])
def test_a_prefix_contains_the_most_important_splats(count: int, tmp_path: Path) -> None:
    splats = single(40, 4)
    importance = torch.rand(40, generator=torch.Generator().manual_seed(1))
    encoded = encode_ply(splats, importance=importance)
    path = tmp_path / "preview.ply"
    encoded.write(path)
    best = torch.argsort(importance, descending=True)[:count]
    for source in (encoded.data, path):
        cut = prefix(source, count)
        assert torch.equal(decode_ply(cut).means, splats.means[best])
        assert PlyData.read(io.BytesIO(cut))["vertex"].count == min(40, count)
    assert prefix(encoded.data, count) == encode_ply(splats, importance=importance, max_splats=count).data


def test_invalid_files_are_refused() -> None:
    whole = encode_ply(single(10, 5)).data
    for broken in (b"", b"ply\n", b"solid\n" + whole, whole[:-1], whole[: len(whole) // 2]):
        with pytest.raises(ValueError, match="PLY file"):
            decode_ply(broken)
        with pytest.raises(ValueError, match="PLY file"):
            prefix(broken, 10)
    with pytest.raises(ValueError, match="opacity is missing"):
        decode_ply(whole.replace(b"float opacity", b"float opocity"))
    with pytest.raises(ValueError, match="more than binary vertices"):
        prefix(whole.replace(b"end_header\n", b"element face 3\nend_header\n"), 1)
    with pytest.raises(ValueError, match="more than binary vertices"):
        prefix(whole.replace(b"property float x\n", b"property list uchar int x\n"), 1)


def test_writes_are_atomic(tmp_path: Path) -> None:
    path = tmp_path / "live.ply"
    old, new = encode_ply(single(5, 6)), encode_ply(single(50, 7))
    old.write(path)
    with path.open("rb") as reader:
        new.write(path)
        assert reader.read() == old.data
    assert path.read_bytes() == new.data
    assert list(tmp_path.iterdir()) == [path]


def test_ply_prefix_imports_neither_torch_nor_numpy() -> None:
    code = "import sys, modal_workers.gaussians.ply_prefix; sys.exit(bool({'torch', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=300).returncode == 0
