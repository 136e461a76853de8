"""Loading of models: what is reported meanwhile, and what is said of files that are missing or wrong."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from contracts.errors import ErrorCode, SaccadeError
from modal_workers.vision_stream.models.loading import load_model
from tests.harness.watching.chunks import told_to_nobody, watched


def refused(name: str, **how: object) -> SaccadeError:
    with pytest.raises(SaccadeError) as error:
        load_model(name, on_progress=told_to_nobody, **how)
    return error.value


def test_a_folder_is_loaded_and_its_progress_is_counted(gemma_folder: Path) -> None:
    told: list[tuple[str, float]] = []
    model = load_model(str(gemma_folder), on_progress=lambda doing, done: told.append((doing, done)))
    assert watched(model.open_session("cache"), 1).tokens == 2
    weights = [done for doing, done in told if doing == "loading weights"]
    assert weights == sorted(weights)
    assert (weights[0], weights[-1]) == (0.0, 1.0)
    assert len(weights) > 20, "each share of them is told"
    assert told[0][0] == "loading the tokenizer"
    assert model.name == str(gemma_folder)


def test_a_hub_name_is_found_below_the_weights_folder(gemma_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "acme").mkdir()
    (tmp_path / "acme" / "small").symlink_to(gemma_folder)
    model = load_model("acme/small", on_progress=told_to_nobody, weights_folder=tmp_path)
    assert model.name == "acme/small"


def test_weights_that_are_not_here_are_not_fetched_unasked(tmp_path: Path) -> None:
    error = refused("acme/not-there", weights_folder=tmp_path)
    assert error.code is ErrorCode.MODEL_FILE_INVALID
    assert "acme/not-there are not on this machine" in error.message
    assert str(tmp_path / "acme" / "not-there") in error.hint
    assert "VISION_DOWNLOAD" in error.hint


@pytest.mark.parametrize("name", ["../secret", "acme/../x", "", "a b/c", "acme"])
def test_a_name_that_is_none(name: str, tmp_path: Path) -> None:
    assert "is no model's" in refused(name, weights_folder=tmp_path).message


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "preprocessor_config.json", "model.safetensors"])
def test_a_folder_that_lacks_a_file(gemma_folder: Path, tmp_path: Path, file: str) -> None:
    folder = shutil.copytree(gemma_folder, tmp_path / "model")
    (folder / file).unlink()
    error = refused(str(folder))
    assert error.code is ErrorCode.MODEL_FILE_INVALID
    assert file in error.message
    assert str(folder) in error.message


def test_a_folder_that_is_missing(tmp_path: Path) -> None:
    error = refused(str(tmp_path / "nowhere"))
    assert (error.code, "is missing" in error.message) == (ErrorCode.MODEL_FILE_INVALID, True)


def _truncated(folder: Path) -> None:
    with (folder / "model.safetensors").open("r+b") as file:
        file.truncate(5000)


def _of_another_size(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["intermediate_size"] *= 2
    (folder / "config.json").write_text(json.dumps(config))


def _of_more_layers(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["num_hidden_layers"] += 1
    config["text_config"]["layer_types"].append("full_attention")
    (folder / "config.json").write_text(json.dumps(config))


def _of_another_kind(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "llama"}))


def _no_json(folder: Path) -> None:
    (folder / "config.json").write_text("<html>")


def _a_tokenizer_without_turns(folder: Path) -> None:
    for file in ("tokenizer.json", "tokenizer_config.json"):
        path = folder / file
        path.write_text(path.read_text().replace("<end_of_turn>", "<turn_ends>"))


def _git_lfs_pointers(folder: Path) -> None:
    (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 9\n")


@pytest.mark.parametrize(
    ("break_it", "reason"),
    [
        (_truncated, "Safetensor"),
        (_git_lfs_pointers, "Safetensor"),
        (_of_another_size, "size"),
        (_of_more_layers, "weights are missing"),
        (_of_another_kind, "llama"),
        (_no_json, "no model"),
        (_a_tokenizer_without_turns, "<end_of_turn>"),
    ],
)
def test_a_folder_with_a_wrong_file(gemma_folder: Path, tmp_path: Path, break_it, reason: str) -> None:
    folder = shutil.copytree(gemma_folder, tmp_path / "model")
    break_it(folder)
    error = refused(str(folder))
    assert error.code is ErrorCode.MODEL_FILE_INVALID
    assert reason in error.message
    assert error.hint


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there(gemma_folder: Path) -> None:
    error = refused(str(gemma_folder), device="cuda")
    assert (error.code, "no GPU" in error.message) == (ErrorCode.BACKEND_NOT_INSTALLED, True)


def test_vllm_that_is_not_installed(gemma_folder: Path) -> None:
    error = refused(str(gemma_folder), backend="vllm")
    assert (error.code, "vllm" in error.message) == (ErrorCode.BACKEND_NOT_INSTALLED, True)


def test_nothing_heavy_is_imported_before_a_model_is_loaded() -> None:
    """A gateway reads the declaration, and a worker that fails early should not wait for PyTorch."""
    code = (
        "import sys, modal_workers.vision_stream.spec, modal_workers.vision_stream.models.loading;"
        "print(sorted({'torch', 'transformers', 'llguidance', 'PIL', 'cv2'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert found.stdout.strip() == "[]"
