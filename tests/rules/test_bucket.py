"""No write to the bucket rests on a condition: rclone, the server of embedded mode and compose, ignores them."""

from __future__ import annotations

import re

from tests.rules.tree import ROOT, files

#: Conditions of boto3's calls, and headers of a request that is made otherwise.
_CONDITION = re.compile(r"\bIf(?:None)?Match=|[\"']If-(?:None-)?Match[\"']\s*:\s*[\"']\*")


def test_no_write_is_conditional() -> None:
    sources = [
        path
        for path in files()
        if path.startswith(("kit/", "services/", "modal_workers/", "cli/", "clients/"))
        and path.endswith((".py", ".js"))
    ]
    assert len(sources) > 300
    assert [path for path in sources if _CONDITION.search((ROOT / path).read_text())] == []
