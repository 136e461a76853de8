"""Ids of uploads in what clients of replaced systems send for a file: its key, path or URL in the bucket."""

from __future__ import annotations

import re
from typing import Final

from contracts.ids import is_id

#: An upload's bucket key contains its id as a folder.
_ID_IN_PATH: Final = re.compile(r"(?:^|/)(upl_[0-9a-f-]{36})(?:[/?]|$)")


def upload_id_in(path: str) -> str | None:
    """Return the id of the upload in a key, path or URL; None if there is none."""
    found = _ID_IN_PATH.search(path)
    return found[1] if found and is_id(found[1], "upl") else None
