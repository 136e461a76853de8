"""A dispatcher in a process of its own that trims its stream in many small steps: ``python -m`` this module."""

from __future__ import annotations

import asyncio
import os

from services.dispatcher.archive import stream_trimmer
from tests.harness.rules.dispatcher_process import main

if __name__ == "__main__":
    stream_trimmer._EVERY_S, stream_trimmer._AT_ONCE = 0.5, 20  # type: ignore[misc]
    asyncio.run(main())
    os._exit(0)
