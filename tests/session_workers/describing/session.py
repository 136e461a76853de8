"""Session of the describing worker: that of the vision stream, with the colour model."""

from __future__ import annotations

import time

from modal_workers.runtime.sessions.live_context import LiveContext
from modal_workers.vision_stream.loading_progress import LoadingProgress
from modal_workers.vision_stream.session import run_with
from modal_workers.vision_stream.spec import VisionStreamParams, VisionStreamResult
from tests.session_workers.describing.colour_model import ColourModel
from tests.session_workers.describing.spec import DescribingParams


def load(params: VisionStreamParams, context: LiveContext) -> ColourModel:
    assert isinstance(params, DescribingParams)
    told = LoadingProgress(params, context)
    for percent in range(0, 101, 10) if params.load_s else ():
        told("loading weights", percent / 100)
        time.sleep(params.load_s / 11)
    return ColourModel(params.word_s, params.memory_px)


def run(params: DescribingParams, context: LiveContext) -> VisionStreamResult:
    return run_with(load, params, context)
