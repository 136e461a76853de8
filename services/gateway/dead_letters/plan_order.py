"""Part of an order to act on all that match: how many there are, as a dry run has said."""

from __future__ import annotations

from typing import Self

from pydantic import ConfigDict, Field, model_validator

from kit.http.request_body import RequestBody
from services.gateway.dead_letters.plan import MAX_ITEMS


class PlanOrder(RequestBody):
    """Number of items that somebody has confirmed, or the question how many there are."""

    model_config = ConfigDict(
        json_schema_extra={
            "anyOf": [
                {"required": ["expected_count"], "properties": {"expected_count": {"type": "integer"}}},
                {"required": ["dry_run"], "properties": {"dry_run": {"const": True}}},
            ]
        }
    )

    expected_count: int | None = Field(
        default=None, ge=1, le=MAX_ITEMS, description="How many match, as a dry run said. Needed without one."
    )
    dry_run: bool = Field(default=False, description="Only say what would be done.")

    @model_validator(mode="after")
    def _confirmed(self) -> Self:
        if self.expected_count is None and not self.dry_run:
            raise ValueError("send dry_run first, then expected_count with the count that it answers")
        return self
