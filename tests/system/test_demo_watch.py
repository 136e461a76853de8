"""The demo of the vision stream, short: an arm is watched by the model that is part of Saccade, beside the truth."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.system.embedded import run_demo

NEEDED = ("cv2", "torch", "transformers")
#: Upper limit; a loaded machine may need that long.
PATIENCE_S = 400.0


@pytest.mark.timeout(PATIENCE_S + 60)
def test_a_watched_arm_is_described_and_mostly_rightly(tmp_path: Path) -> None:
    shown = run_demo("watch", "--seconds", "8", cwd=tmp_path, needed=NEEDED, timeout_s=PATIENCE_S)
    texts, truth, folder = shown["texts"], shown["truth"], Path(shown["folder"])
    assert texts
    assert [text["chunk"] for text in texts] == list(range(1, len(texts) + 1))
    assert all(text["model"] == "tiny" and text["finish_reason"] == "complete" for text in texts)
    assert all(set(text["rules"]) == {"dropped"} for text in texts)
    assert truth["texts"] == len(texts)
    assert truth["not_understood"] == 0
    # It looks at the picture: with the pictures of other scenes a half of the objects is right, and a twentieth of the
    # colours (modal_workers/vision_stream/models/tiny/README.md).
    assert truth["true_share_by_kind"]["colour"] > 0.5
    lines = [json.loads(line) for line in (folder / "transcript.jsonl").read_text().splitlines()]
    assert [line["text"] for line in lines if line["type"] == "text"] == [text["text"] for text in texts]
    assert (folder / "transcript.vtt").read_text().startswith("WEBVTT")
    page = Path(shown["transcript"]).read_text()
    assert page.count("data:image/jpeg") == len(texts)
    assert "True statements:" in page
