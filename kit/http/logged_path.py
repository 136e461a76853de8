"""Path of a request as it is logged: without the ticket that the address of a job's page holds.

deploy/origin.conf leaves out the same of nginx's log.
"""

from __future__ import annotations

import re
from typing import Final

#: The ticket opens the job's files for a day (services/gateway/artifacts/pages.py).
_PAGE: Final = re.compile(r"(/v1/jobs/[^/]+/pages/)[^/]+")


def logged_path(path: str) -> str:
    """Return a path with ``-`` in the place of a page's ticket."""
    return _PAGE.sub(r"\1-", path, count=1)
