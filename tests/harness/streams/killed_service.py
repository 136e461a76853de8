"""A slow service of reactions for tests to kill; arguments are the bus, a file to write to, and the attempts."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Annotated, TextIO

from saccade_events import Context, Event, Reactions, RetryPolicy, run

from contracts.events.upload import UploadCompleted

reactions = Reactions("tested")


@reactions.on(UploadCompleted, RetryPolicy(maximum_attempts=int(sys.argv[3]), initial_interval_s=0.1, ack_wait_s=1.0))
async def completed(event: Event[UploadCompleted], log: Annotated[TextIO, Context()]) -> None:
    """Note what is begun and what is done."""
    log.write(f"begin {event.subject}\n")
    if event.data.sha256 == "poison":
        os.kill(os.getpid(), signal.SIGKILL)
    await asyncio.sleep(0.3)
    log.write(f"done {event.subject}\n")


if __name__ == "__main__":
    with Path(sys.argv[2]).open("a", buffering=1) as lines:
        run(reactions, url=sys.argv[1], context={"log": lines})
