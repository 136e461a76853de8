"""Ids in the paths of routes. OpenAPI states their form; an id of another form is answered as an unknown one: 404."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import Path

from contracts.events.base import CURSOR_PATTERN
from contracts.ids import JOB_ID_PATTERN, id_pattern

_UUID: Final = "0198c0de-0000-7000-8000-000000000001"


def _id(pattern: str, example: str) -> Any:
    return Path(json_schema_extra={"pattern": pattern}, examples=[example])


JobId = Annotated[str, _id(JOB_ID_PATTERN, f"job_{_UUID}")]
SessionId = Annotated[str, _id(id_pattern("ses"), f"ses_{_UUID}")]
RuleId = Annotated[str, _id(id_pattern("rul"), f"rul_{_UUID}")]
UploadId = Annotated[str, _id(id_pattern("upl"), f"upl_{_UUID}")]
RunId = Annotated[str, _id(id_pattern("run"), f"run_{_UUID}")]
ErasureId = Annotated[str, _id(id_pattern("ers"), f"ers_{_UUID}")]
WebhookId = Annotated[str, _id(id_pattern("whk"), f"whk_{_UUID}")]
ReplayId = Annotated[str, _id(id_pattern("rpl"), f"rpl_{_UUID}")]
#: An endpoint, or a job with a ``webhook_url`` of its own.
ReceiverId = Annotated[str, _id(f"{id_pattern('whk')}|{id_pattern('job')}", f"whk_{_UUID}")]
DeliveryId = Annotated[str, _id(CURSOR_PATTERN, "a1b2c3d4.17")]
