"""Callback of one video of a client of the replaced badminton system: its run, where results go, what was delivered.

The gateway writes it when it accepts a video, the notifier while it delivers; each write is conditional on the last.
There is one message per tenant and video, so the record is also what makes a request idempotent by its video.
"""

from __future__ import annotations

import hashlib
from typing import Final, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from contracts.events.base import Message
from contracts.ids import new_id

#: Dialects of the replaced system. ``site``: ``callbackUrl`` is the root of a site with its routes below it, results
#: go to its storage. ``plan``: ``callbackUrl`` ends in /updateResults, the results are in the body of that request.
Dialect = Literal["site", "plan"]
#: How a callback ended; ``abandoned``: the receiver accepted neither the results nor that they failed.
Outcome = Literal["completed", "failed", "abandoned"]

PLAN_SUFFIX: Final = "/updateResults"


class Callback(BaseModel):
    """The callback of the newest run of one video."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    tenant: str
    video_id: str
    #: ``callbackUrl`` without the suffix of its dialect and without a slash at its end.
    site_url: str
    dialect: Dialect
    #: Number of the run, from 1, and hash of what was requested: another request is another run.
    generation: int = Field(ge=1)
    fingerprint: str
    job_id: str
    #: Uploads that are fetched before the job is submitted; if one fails, there is no job.
    upload_ids: tuple[str, ...] = ()
    accepted_at: AwareDatetime
    #: Number of requests for this run. Each changes the record: results that were sent while it arrived are sent again.
    requests: int = 1
    #: Sequence of the newest event whose log entry was delivered, or given up.
    logged: int = 0
    #: Storage id at the receiver by name of the artifact.
    stored: dict[str, str] = Field(default_factory=dict)
    #: Failed attempts of the current step of the end, and the time of the next one.
    attempts: int = 0
    due: AwareDatetime | None = None
    last_error: str | None = None
    #: Why the results cannot be delivered; the receiver is told that its video has failed.
    undeliverable: str | None = None
    outcome: Outcome | None = None

    @property
    def subject(self) -> str:
        """NATS subject of the record."""
        return callback_subject(self.tenant, self.video_id)

    def message(self) -> Message:
        """Return the record as a message to publish."""
        return Message(self.subject, new_id("evt"), self.model_dump_json(exclude_defaults=True).encode())


def callback_subject(tenant: str, video_id: str) -> str:
    """Return the NATS subject of the callback of a video; the video's id may have any characters."""
    return f"saccade.cbk.{tenant}.{hashlib.sha256(video_id.encode()).hexdigest()[:32]}"


def callback_subjects(tenant: str) -> str:
    """Return the filter of the subjects of all callbacks of a tenant."""
    return f"saccade.cbk.{tenant}.*"
