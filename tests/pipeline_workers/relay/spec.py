"""Declaration of the pipeline."""

from __future__ import annotations

from typing import Any

from contracts.workload import Input, Stage, Workload
from tests.pipeline_workers.relay.bind.spec import RelayResult
from tests.pipeline_workers.relay.params import RelayParams


def _goes_on(params: Any) -> bool:
    return not params.only_gather


def _shards(params: Any) -> int:
    return int(params.shards)


WORKLOAD = Workload(
    name="relay",
    title="Relay",
    description="Photos are gathered, shaped and bound.",
    version="1",
    params=RelayParams,
    result=RelayResult,
    inputs=(
        Input("photos", "image", "Photos", minimum=0, maximum=5),
        Input("video", "video", "A video, instead", minimum=0),
        Input("masks", "image", "Masks, beside them", minimum=0),
    ),
    one_of=(("photos", "video"),),
    stages=(
        Stage("gather", "Gather", 0.2, work="relay_gather", takes_inputs=True),
        Stage("shape", "Shape", 0.6, work="relay_shape", needed=_goes_on, shards=_shards),
        Stage("bind", "Bind", 0.2, work="relay_bind", needed=_goes_on),
    ),
    kind="pipeline",
)
