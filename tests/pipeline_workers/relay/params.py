"""Parameters of the small pipeline and of each stage."""

from __future__ import annotations

from pydantic import Field

from contracts.workload import Params


class RelayParams(Params):
    """Parameters of the relay."""

    shards: int = Field(default=3, description="Into how many shards the middle stage is fanned out.")
    only_gather: bool = Field(default=False, description="Only the first stage is needed.")
    killed_in: str = Field(default="", description="The stage of which a worker is killed once, in the middle.")
