"""Events of upload rules, and of the groups of uploads that they collect."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from contracts.errors import ErrorBody
from contracts.events.base import EventData
from contracts.ids import id_pattern

#: Prefix of the fields that name an entry of an upload's metadata: ``metadata.lap``.
METADATA_FIELD: Final = "metadata."
#: Most uploads of one group.
MAXIMUM_GROUP: Final = 500

#: Name of a field by which uploads are grouped or ordered.
FieldName = Annotated[str, StringConstraints(pattern=r"^(filename|completed_at|metadata\.[A-Za-z0-9_.-]{1,64})$")]
MetadataName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
ShortText = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class RuleMatch(BaseModel):
    """Condition on one upload; all given parts must hold, and without any every upload matches."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    media: Literal["video", "image", "archive"] | None = None
    #: Shell pattern of the whole file name, without regard to case: ``*.mp4``.
    filename: ShortText | None = None
    #: Each entry's value is a shell pattern; ``*`` asks only for its presence.
    metadata: dict[MetadataName, ShortText] = Field(default_factory=dict, max_length=16)
    minimum_bytes: int | None = Field(default=None, ge=0)
    maximum_bytes: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if (
            self.minimum_bytes is not None
            and self.maximum_bytes is not None
            and self.minimum_bytes > self.maximum_bytes
        ):
            raise ValueError("minimum_bytes is larger than maximum_bytes")
        return self


class RuleGroup(BaseModel):
    """Collection of several uploads into one job: when ``needs`` have come, or when it was quiet for ``quiet_s``."""

    # The fields alone do not say that one of two is needed.
    model_config = ConfigDict(
        frozen=True, extra="forbid", json_schema_extra={"examples": [{"by": "metadata.lap_pair", "needs": 2}]}
    )

    #: ``metadata.<name>``: uploads with the same value belong together; None: all uploads of the rule do.
    by: Annotated[str, StringConstraints(pattern=r"^metadata\.[A-Za-z0-9_.-]{1,64}$")] | None = None
    #: Number of uploads that complete the group.
    needs: int | None = Field(default=None, ge=2, le=MAXIMUM_GROUP)
    #: Seconds without a further upload after which the group is complete.
    quiet_s: float | None = Field(default=None, ge=1, le=86_400)
    #: Least number of uploads that a quiet group makes a job of; fewer are skipped.
    minimum: int = Field(default=1, ge=1, le=MAXIMUM_GROUP)
    #: Order in which the uploads fill the inputs; numbers in it compare as numbers.
    order: FieldName = "completed_at"

    @model_validator(mode="after")
    def _one_end(self) -> Self:
        if (self.needs is None) == (self.quiet_s is None):
            raise ValueError("a group takes exactly one of needs and quiet_s")
        return self


class RuleDefinition(BaseModel):
    """Definition of a rule: the uploads that it applies to, and the job that it submits for them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: ShortText
    enabled: bool = True
    match: RuleMatch = Field(default_factory=RuleMatch)
    group: RuleGroup | None = None
    workload: str
    #: Inputs of the workload that the uploads fill, in this order; the last one takes all the rest. Empty: the inputs
    #: that the workload requires, in its order, else its first one.
    inputs: tuple[ShortText, ...] = Field(default=(), max_length=16)
    #: Parameters with the workload's defaults filled in, as of the rule's last change.
    params: dict[str, Any] = Field(default_factory=dict)
    priority: int = Field(default=0, ge=-100, le=100)
    max_cost_usd: float | None = Field(default=None, gt=0)
    gpu: str | None = None
    #: Metadata of each job.
    metadata: dict[str, str] = Field(default_factory=dict)
    webhook_url: str | None = None
    #: Most jobs that the rule submits in one day (UTC).
    jobs_per_day: int = Field(default=100, ge=1, le=100_000)


class JobRule(BaseModel):
    """Rule that submitted a job, and the uploads that it did so for."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    rule_id: str = Field(pattern=id_pattern("rul"))
    upload_ids: tuple[str, ...]
    #: Id of the group; None for a rule without groups.
    group_id: str | None = None


class RuleCreated(EventData):
    """A client made a rule; it applies to uploads that are completed from now on."""

    type: ClassVar[str] = "rule.created"

    rule: RuleDefinition
    #: Id of the API key of who made it; None without keys.
    made_by: str | None = None


class RuleUpdated(EventData):
    """A client changed or switched a rule, or the dispatcher repeats it before it expires; the whole definition."""

    type: ClassVar[str] = "rule.updated"

    rule: RuleDefinition
    made_by: str | None = None


class RuleDeleted(EventData):
    """A client deleted a rule; its jobs stay."""

    type: ClassVar[str] = "rule.deleted"

    made_by: str | None = None


class RuleSkipped(EventData):
    """A rule matched, but no job was submitted for these uploads; the error says why."""

    type: ClassVar[str] = "rule.skipped"

    upload_ids: tuple[str, ...]
    group_id: str | None = None
    error: ErrorBody


class GroupUploadAdded(EventData):
    """An upload joined a group of a rule."""

    type: ClassVar[str] = "group.upload_added"

    rule_id: str
    #: Value of the field that the rule groups by; empty without one.
    value: str
    #: Number of the group among those of the rule with this value, from 1.
    number: int = Field(ge=1)
    upload_id: str
    #: Number of uploads of the group, this one included.
    count: int = Field(ge=1)


class GroupClosed(EventData):
    """A group takes no more uploads; its job has the id ``job_id``, unless ``rule.skipped`` says otherwise."""

    type: ClassVar[str] = "group.closed"

    rule_id: str
    reason: Literal["complete", "quiet"]
    #: All uploads, in the order in which they fill the inputs.
    upload_ids: tuple[str, ...]
    job_id: str
