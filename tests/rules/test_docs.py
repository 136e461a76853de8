"""What the documents name is there."""

from __future__ import annotations

import re

from tests.rules.tree import ROOT, files

PAGES = [path for path in files() if path.endswith(".md")]
TOP = r"(?:contracts|kit|services|simulators|modal_workers|cli|deploy|docs|tests|bench|clients|\.ci|\.github)"
IN_CODE = re.compile(rf"`({TOP}/[^`\s]*|[A-Za-z.-]+\.(?:toml|yml|txt|lock)|Makefile)`")
#: A file that the reader of a page creates: its path, then its content.
CREATED = re.compile(r"^`([\w/.-]+)`:\n\n```", re.MULTILINE)
LINK = re.compile(r"\]\((?!https?:|mailto:|#)([^)\s#]+)")


def _exists(pattern: str) -> bool:
    """Return whether a path is there; ``<name>`` stands for any name, ``path:function`` for a path."""
    pattern = re.sub(r"<[^>]+>", "*", pattern.partition(":")[0]).rstrip("/")
    return any(ROOT.glob(pattern))


def test_paths_in_the_documents_exist() -> None:
    texts = {page: (ROOT / page).read_text() for page in PAGES}
    named = {(page, path) for page, text in texts.items() for path in IN_CODE.findall(text)}
    named -= {(page, path) for page, text in texts.items() for path in CREATED.findall(text)}
    assert named
    assert {(page, path) for page, path in named if not _exists(path)} == set()


def test_links_between_documents_lead_somewhere() -> None:
    links = {(page, link) for page in PAGES for link in LINK.findall((ROOT / page).read_text())}
    assert links
    broken = {(page, link) for page, link in links if not ((ROOT / page).parent / link).exists()}
    assert broken == set()


def test_decisions_are_numbered_without_a_gap() -> None:
    numbers = sorted(int(path.name[:4]) for path in (ROOT / "docs" / "adr").glob("[0-9]*.md"))
    assert numbers == list(range(1, len(numbers) + 1))


def test_the_setting_that_a_refusal_names_is_documented() -> None:
    # Web clients of other origins are refused; the hint names the setting (kit/auth/host_guard.py).
    setting = "SACCADE_ALLOWED_ORIGINS"
    assert setting in (ROOT / "kit/auth/host_guard.py").read_text()
    assert [page for page in PAGES if page.startswith("docs/") and f"{setting}=" in (ROOT / page).read_text()]
