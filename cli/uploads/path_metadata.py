"""Metadata of a file from its path: ``--metadata lap={stem}`` and ``--path '{driver}/lap_{lap}.mp4'``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from string import Formatter
from typing import Final

from cli.failure import USAGE, Failure

#: Parts of every path that a template may name.
PARTS: Final = ("name", "stem", "suffix", "parent", "path")
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


class PathMetadata:
    """Templates of metadata, and a pattern that names further parts of a path."""

    def __init__(self, templates: Mapping[str, str], pattern: str | None) -> None:
        """``{name}``, ``{stem}``, ``{suffix}``, ``{parent}`` and ``{path}`` are the file's; others the pattern names.

        Raises:
            Failure: a template or the pattern is not as described.
        """
        self._templates = dict(templates)
        named: list[str] = []
        self._pattern: re.Pattern[str] | None = None
        if pattern is not None:
            self._pattern, named = _compiled(pattern)
        for key, template in self._templates.items():
            for field in _fields(template, f"--metadata {key}={template}"):
                if field not in (*PARTS, *named):
                    raise _wrong(f"--metadata {key}={template}: there is no {{{field}}}.", (*PARTS, *named))

    def of(self, path: str) -> dict[str, str] | None:
        """Return the metadata of a file, given its path relative to the folder; None if the pattern does not fit."""
        parts = PurePosixPath(path)
        parent = "" if parts.parent == PurePosixPath(".") else parts.parent.name
        values = {"name": parts.name, "stem": parts.stem, "suffix": parts.suffix[1:], "parent": parent, "path": path}
        named: dict[str, str] = {}
        if self._pattern is not None:
            if (found := self._pattern.fullmatch(path)) is None:
                return None
            named = found.groupdict()
        filled = {key: template.format_map(values | named) for key, template in self._templates.items()}
        return named | filled


def _compiled(pattern: str) -> tuple[re.Pattern[str], list[str]]:
    """Return the regular expression of a pattern, and the names in it; each stands for a part of one path's step."""
    expression, names = "", list[str]()
    try:
        for text, name, form, conversion in Formatter().parse(pattern):
            expression += re.escape(text)
            if name is None:
                continue
            if form or conversion or name in names or not _NAME.fullmatch(name) or name in PARTS:
                raise _wrong(f"--path {pattern}: {{{name}}} is not a new name of letters and digits.")
            names.append(name)
            expression += f"(?P<{name}>[^/]+?)"
    except ValueError as error:
        raise _wrong(f"--path {pattern}: {error}.") from None
    return re.compile(expression), names


def _fields(template: str, shown: str) -> list[str]:
    try:
        parsed = list(Formatter().parse(template))
    except ValueError as error:
        raise _wrong(f"{shown}: {error}.") from None
    if any(form or conversion for _, _, form, conversion in parsed):
        raise _wrong(f"{shown}: write only a name between braces.")
    return [name for _, name, _, _ in parsed if name is not None]


def _wrong(message: str, known: tuple[str, ...] = PARTS) -> Failure:
    names = ", ".join(f"{{{name}}}" for name in known)
    return Failure(message, code="usage", hint=f"Known: {names}. Braces themselves are {{{{ and }}}}.", exit_code=USAGE)
