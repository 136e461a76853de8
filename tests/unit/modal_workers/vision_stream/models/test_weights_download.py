"""Downloads of weights that are interrupted, that two processes begin at once, or whose hub is away."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.vision.model_hub import ModelHub

ROOT = Path(__file__).parents[5]
NAME = "acme/small"
WEIGHTS = "model-00001-of-00002.safetensors"
OTHER_WEIGHTS = "model-00002-of-00002.safetensors"
INDEX = {"weight_map": {"a": WEIGHTS, "b": OTHER_WEIGHTS}}
FILES = {
    "config.json": b"{}",
    "tokenizer.json": b"{}  ",
    "preprocessor_config.json": b"{ }",
    "chat_template.jinja": b"{{ messages }}",
    "model.safetensors.index.json": json.dumps(INDEX).encode(),
    WEIGHTS: b"weights" * 1000,
    OTHER_WEIGHTS: b"others" * 1000,
}
#: Prints the folder of the model, or the error.
PROGRAM = """
import sys
from pathlib import Path
from contracts.errors import SaccadeError
from modal_workers.vision_stream.models.weights import find_weights
told = lambda what, share: print(what, share, file=sys.stderr, flush=True)
folder = Path(sys.argv[1])
try:
    given = {"weights_folder": folder, "may_download": sys.argv[2] == "yes", "token": None, "on_progress": told}
    print(find_weights("acme/small", **given))
except SaccadeError as error:
    print(f"{error.message} {error.hint}")
"""


@pytest.fixture
def hub() -> Iterator[ModelHub]:
    with ModelHub(NAME, FILES) as running:
        yield running


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return tmp_path / "weights"


def begin(hub: ModelHub, weights: Path, *, may_download: bool = True) -> subprocess.Popen[str]:
    """Start a process that looks for the model."""
    command = [sys.executable, "-c", PROGRAM, str(weights), "yes" if may_download else "no"]
    environment = {"PYTHONPATH": str(ROOT), "HF_ENDPOINT": hub.url, "HF_HOME": str(weights.parent / "hub")}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=environment, cwd=ROOT, stdout=pipe, stderr=pipe, text=True)


def found(process: subprocess.Popen[str]) -> str:
    said, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    return said.strip()


def kill_in_the_middle(hub: ModelHub, weights: Path) -> None:
    """Kill a download while one file of the weights is half there, and everything else is."""
    go_on = hub.hold(WEIGHTS)
    process = begin(hub, weights)
    assert hub.holding.wait(60)
    folder = weights / NAME
    # Written after the file itself: without it, the file is loaded again.
    noted = [folder / f".cache/huggingface/download/{name}.metadata" for name in FILES if name != WEIGHTS]
    for _ in range(600):
        if all(note.is_file() for note in noted):
            break
        try:
            process.wait(0.1)
        except subprocess.TimeoutExpired:
            continue
    process.kill()
    process.communicate(timeout=60)
    del hub.held[WEIGHTS]
    go_on.set()
    assert not (folder / WEIGHTS).exists()
    assert list(folder.rglob("*.incomplete"))


def first_line(process: subprocess.Popen[str]) -> str:
    """Return the first line that a process writes to its standard error."""
    assert process.stderr
    assert select.select([process.stderr], [], [], 60)[0], "it has written nothing"
    return os.read(process.stderr.fileno(), 1 << 16).decode().partition("\n")[0]


def check_complete(weights: Path) -> None:
    folder = weights / NAME
    assert {name: (folder / name).read_bytes() for name in FILES} == FILES
    assert not list(folder.rglob("*.incomplete")), "each would stay for good"


def test_a_download_that_was_killed_goes_on(hub: ModelHub, weights: Path) -> None:
    kill_in_the_middle(hub, weights)
    hub.sent.clear()
    said = found(begin(hub, weights, may_download=False))
    assert "was interrupted" in said
    assert "VISION_DOWNLOAD=true" in said
    assert found(begin(hub, weights)) == str(weights / NAME)
    check_complete(weights)
    assert hub.sent == {WEIGHTS: 1}, "what is complete is not loaded again"
    assert found(begin(hub, weights, may_download=False)) == str(weights / NAME)


def test_a_download_that_was_killed_before_that_was_noted_goes_on(hub: ModelHub, weights: Path) -> None:
    kill_in_the_middle(hub, weights)
    (weights / NAME / ".saccade-download").unlink()
    assert found(begin(hub, weights)) == str(weights / NAME)
    check_complete(weights)


def test_a_download_that_cannot_go_on_is_not_taken_for_complete(hub: ModelHub, weights: Path) -> None:
    kill_in_the_middle(hub, weights)
    with ModelHub("acme/other", FILES) as other:
        assert "no model acme/small" in found(begin(other, weights))
    # ``other`` is not reachable any more.
    assert "could not be downloaded" in found(begin(other, weights))
    assert "was interrupted" in found(begin(hub, weights, may_download=False))
    assert found(begin(hub, weights)) == str(weights / NAME)
    check_complete(weights)


def test_two_processes_load_each_file_once(hub: ModelHub, weights: Path) -> None:
    go_on = hub.hold(WEIGHTS)
    first = begin(hub, weights)
    assert hub.holding.wait(60)
    second = begin(hub, weights)
    assert "waiting for another download" in first_line(second)
    go_on.set()
    assert {found(first), found(second)} == {str(weights / NAME)}
    check_complete(weights)
    assert set(hub.sent.values()) == {1}


def test_weights_of_which_a_part_is_missing_are_not_loaded(hub: ModelHub, weights: Path) -> None:
    folder = weights / NAME
    folder.mkdir(parents=True)
    for name, body in FILES.items():
        (folder / name).write_bytes(body)
    assert found(begin(hub, weights)) == str(folder)
    (folder / OTHER_WEIGHTS).unlink()
    assert f"has no {OTHER_WEIGHTS}" in found(begin(hub, weights)), "files that somebody has put there are not replaced"
