"""JSON bodies of the rule routes."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from contracts.errors import ErrorBody
from contracts.events.rule import MetadataName, RuleGroup, RuleMatch
from contracts.gpu_ladder import GPUS
from contracts.limits import METADATA_BYTES
from contracts.prices import ALIASES
from kit.http.request_body import RequestBody
from services.gateway.jobs.check_schemas import EstimatedCost
from services.gateway.workload_names import names_of

_NAME_CHARS: Final = 200
_MAX_INPUTS: Final = 16

InputName = Annotated[str, Field(min_length=1, max_length=_NAME_CHARS)]


#: The dispatcher compiles a pattern to a regular expression, which takes 10 ms with a hundred asterisks.
ShellPattern = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^([^*]*\*){0,8}[^*]*$")]


class NewMatch(RuleMatch):
    """The uploads that a rule applies to: those that fulfil all given parts.

    `filename` and the values of `metadata` are shell patterns of the whole text, without regard to case: `*.mp4`. They
    have at most eight asterisks. The value `*` asks only for the presence of an entry.
    """

    model_config = ConfigDict(strict=True)

    filename: ShellPattern | None = None
    metadata: dict[MetadataName, ShellPattern] = Field(default_factory=dict, max_length=16)


class NewGroup(RuleGroup):
    """Several uploads for one job: when `needs` have come, or when no further one came for `quiet_s`.

    `by` names an entry of the uploads' metadata (`metadata.lap`): those with the same value belong together; without
    it, all do. An upload without this entry belongs to no group. `order` sorts them into the inputs: `completed_at`,
    `filename` or an entry of the metadata; numbers compare as numbers.
    """

    model_config = ConfigDict(
        strict=True,
        json_schema_extra={
            "oneOf": [
                {
                    "properties": {"needs": {"type": "integer"}, "quiet_s": {"type": "null"}},
                    "required": ["needs"],
                },
                {
                    "properties": {"needs": {"type": "null"}, "quiet_s": {"type": "number"}},
                    "required": ["quiet_s"],
                },
            ]
        },
    )


_NAME: Final[Any] = Field(min_length=1, max_length=_NAME_CHARS, examples=["Laps of Monza"])
_WORKLOAD: Final[Any] = Field(
    min_length=1, max_length=64, examples=["lap_compare"], json_schema_extra=names_of("job", "pipeline")
)


class RuleFields(RequestBody):
    """Fields of a rule that have defaults."""

    enabled: bool = True
    match: NewMatch = Field(default_factory=NewMatch, description="Without any part: all uploads.")
    group: NewGroup | None = Field(default=None, description="Null: each upload is a job of its own.")
    inputs: list[InputName] = Field(
        default_factory=list,
        max_length=_MAX_INPUTS,
        json_schema_extra={"uniqueItems": True},
        description="Inputs of the workload that the uploads fill, in this order; the last takes all the rest. Empty: "
        "those that the workload requires, else the first that takes the media of `match`.",
    )
    params: dict[str, Any] = Field(
        default_factory=dict,
        description="As defined by `params_schema` of the workload under GET /v1/workloads.",
        examples=[{}],
    )
    priority: int = Field(default=0, ge=-10, le=10, description="Of the jobs.")
    max_cost_usd: float | None = Field(
        default=None, gt=0, le=1_000_000, allow_inf_nan=False, description="Each job is stopped before it costs more."
    )
    gpu: str | None = Field(
        default=None,
        max_length=32,
        description="Run the jobs on this GPU only; for workloads with a GPU ladder.",
        json_schema_extra={"enum": [*GPUS, *ALIASES, None]},
    )
    metadata: dict[str, str] = Field(
        default_factory=dict, description=f"Of each job; at most {METADATA_BYTES} bytes as JSON."
    )
    webhook_url: str | None = Field(
        default=None,
        max_length=2048,
        pattern=r"^https?://[^\s/?#@]+([/?#]\S*)?$",
        description="Of each job. Must be https, except in embedded mode.",
    )
    jobs_per_day: int = Field(
        default=100, ge=1, le=100_000, description="Most jobs that the rule submits in one day (UTC)."
    )


class NewRule(RuleFields):
    """A request for a rule."""

    name: str = _NAME
    workload: str = _WORKLOAD


class RuleChange(RuleFields):
    """A change of a rule: fields that are left out stay, others are replaced as a whole.

    With another `workload`, `inputs` and `params` that are left out are those by default.
    """

    name: str = Field(default="", min_length=1, max_length=_NAME_CHARS)
    workload: str = Field(default="", min_length=1, max_length=64, json_schema_extra=names_of("job", "pipeline"))


class SkippedObject(BaseModel):
    """The newest uploads that matched and were no job."""

    at: datetime
    upload_ids: list[str]
    group_id: str | None
    error: ErrorBody


class RuleLinks(BaseModel):
    """Related resources."""

    self: str
    jobs: str


class RuleObject(BaseModel):
    """A rule. It applies to uploads that are completed after it was made or enabled."""

    id: str
    name: str
    enabled: bool
    match: RuleMatch
    group: RuleGroup | None
    workload: str
    inputs: list[str]
    params: dict[str, Any] = Field(description="With the workload's defaults, as of the last change.")
    priority: int
    max_cost_usd: float | None
    gpu: str | None
    metadata: dict[str, str]
    webhook_url: str | None
    jobs_per_day: int
    created_at: datetime
    updated_at: datetime
    made_by: str | None = Field(description="Id of the API key that made it or changed it last; null without keys.")
    jobs_today: int = Field(description="Jobs that it has submitted since 00:00 UTC.")
    last_job: str | None
    last_skipped: SkippedObject | None
    links: RuleLinks


class RulePage(BaseModel):
    """A page of rules, newest first."""

    data: list[RuleObject]
    next_cursor: str | None = Field(description="Send it as `cursor` for the next page; null on the last one.")


class TrialUpload(BaseModel):
    """An upload that the rule matches."""

    upload_id: str
    filename: str
    completed_at: datetime | None


class TrialJob(BaseModel):
    """A group of matched uploads, or a single one, and what the rule would do with it."""

    outcome: Literal["submitted", "waiting", "skipped"] = Field(
        description="`waiting`: the group is not complete. `skipped`: no job; `error` says why."
    )
    group: str | None = Field(description="Value that its uploads are grouped by; null for a rule without groups.")
    inputs: dict[str, list[TrialUpload]] = Field(description="The uploads by the input that they fill.")
    error: ErrorBody | None


class RuleTrial(BaseModel):
    """Answer of a dry run: what the rule would have done with past uploads."""

    workload: str
    match: RuleMatch
    group: RuleGroup | None
    inputs: list[str]
    params: dict[str, Any] = Field(description="With defaults.")
    considered: int = Field(description="Completed uploads that were looked at, the newest ones.")
    matched: int
    jobs: list[TrialJob] = Field(description="In the order in which they would have been submitted.")
    estimate: EstimatedCost = Field(description="Of one job.")
    estimated_usd: float = Field(description="Of all jobs that would have been submitted.")
