"""Content security policy of self-contained HTML reports, and data for their scripts."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any


def content_security_policy(style: str, script: str) -> str:
    """Return a policy that allows the page's own script and style, its images and videos, and nothing else."""

    def digest(text: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    return (
        f"default-src 'none'; script-src {digest(script)}; style-src {digest(style)}; "
        "img-src data:; media-src blob:; base-uri 'none'; form-action 'none'"
    )


def script_json(value: Any) -> str:
    """Return JSON that cannot close the script element around it."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
