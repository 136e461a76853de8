"""Saved states of workers before the size of the picture was part of them."""

from __future__ import annotations

from pathlib import Path

import torch

from modal_workers.live_splat.frame_image import FrameDecoder
from modal_workers.live_splat.spec import LiveSplatParams
from modal_workers.live_splat.splat_model import LiveModel

PICTURE_PX = (64, 48)


def test_a_state_without_the_size_of_the_picture_can_still_be_read(tmp_path: Path) -> None:
    params = LiveSplatParams()
    decoder = FrameDecoder(params)
    decoder.set_size(*PICTURE_PX)
    model, path = LiveModel(params, *decoder.cameras, decoder.matrix()), tmp_path / "state.pt"
    model.save(path)
    assert LiveModel.picture_size(path) == PICTURE_PX
    state = torch.load(path, weights_only=True)
    del state["picture_size"]
    torch.save(state, path)
    assert LiveModel.picture_size(path) is None
    model.restore(path)
