"""No secret, no path of anybody's machine and no package registry stands in the repository."""

from __future__ import annotations

import hashlib
import json
import re

from tests.rules.tree import ROOT, files

FORBIDDEN = {
    "private key": r"BEGIN (?:[A-Z]+ )?PRIVATE KEY",
    "AWS key id": r"\bAKIA[0-9A-Z]{16}\b",
    "GitHub token": r"\bgh[pousr]_[A-Za-z0-9]{30,}",
    "Modal token": r"\ba[ks]-[A-Za-z0-9]{20,}\b",
    "web token": r"\beyJ[A-Za-z0-9_-]{15,}\.eyJ",
    "home or work folder": r"(?<![\w.<>{}$*/-])/(?:home|root|Users|work|workspace|mnt)/[a-z]",
    "registry": r"\b(?:[a-z0-9-]+\.)*(?:py" + r"pi\.org|pythonhosted\.org|artifactory\.[a-z]|jfrog\.io)\b",
    "registry option": r"--(?:extra-)?index-url|--trusted-host|\[\[tool\.uv\.index\]\]",
}
#: Uv's option that keeps hosts out is named where the file's making is told.
ALLOWED = {("constraints.txt", "registry option")}


def test_nothing_that_must_not_be_published() -> None:
    found = []
    for path in files():
        try:
            text = (ROOT / path).read_text()
        except UnicodeDecodeError:
            continue
        found += [
            f"{path}: {what}"
            for what, pattern in FORBIDDEN.items()
            if (path, what) not in ALLOWED and path != "tests/rules/test_secrets.py" and re.search(pattern, text)
        ]
    assert found == []


def test_the_patterns_find_what_they_are_for() -> None:
    planted = {
        "private key": "-----BEGIN RSA PRIVATE KEY-----",
        "AWS key id": "AKIA" + "A" * 16,
        "GitHub token": "ghp_" + "a" * 36,
        "Modal token": "ak-" + "a" * 22,
        "web token": "eyJ" + "a" * 20 + ".eyJ",
        "home or work folder": "see /home/anna/x",
        "registry": "https://py" + "pi.org/simple",
        "registry option": "pip install --index-url x",
    }
    assert planted.keys() == FORBIDDEN.keys()
    assert [what for what, text in planted.items() if not re.search(FORBIDDEN[what], text)] == []


def test_the_only_key_in_the_repository_is_the_one_for_development() -> None:
    keys = json.loads((ROOT / "deploy" / "development_keys.json").read_text())
    assert [key["id"] for key in keys] == ["development"]
    assert keys[0]["sha256"] == hashlib.sha256(b"development-only").hexdigest()
