"""One model with random weights for all tests of this folder."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from modal_workers.vision_stream.models.gemma.folder import load_gemma
from modal_workers.vision_stream.models.gemma.network import Gemma
from modal_workers.vision_stream.models.transformers_model import TransformersModel
from tests.harness.watching.chunks import told_to_nobody
from tests.harness.watching.random_gemma import write_random_gemma


@pytest.fixture(scope="session")
def gemma_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_gemma(tmp_path_factory.mktemp("random-gemma"))


@pytest.fixture(scope="session")
def gemma(gemma_folder: Path) -> Gemma:
    return load_gemma(gemma_folder, torch.device("cpu"), told_to_nobody)


@pytest.fixture
def model(gemma: Gemma) -> TransformersModel:
    return TransformersModel("random", gemma)
