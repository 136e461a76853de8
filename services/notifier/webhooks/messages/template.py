"""Users' templates: text with ``{{name}}`` for a value of the event, and nothing else. Pure.

A template is split once, from left to right, into text and names of a closed table; a value is put in as it is and
never read again. There is no expression, attribute, format or loop, so a template cannot compute, read or fail.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

OPEN: Final = "{{"
CLOSE: Final = "}}"
#: Longest template, and longest template of a subject, which is one line.
TEMPLATE_CHARS: Final = 2000
SUBJECT_TEMPLATE_CHARS: Final = 200
#: Longest value of one name.
VALUE_CHARS: Final = 1000


@dataclass(frozen=True)
class TemplatePart:
    """Text as it is written, or the name of a value."""

    text: str
    is_name: bool


class TemplateError(ValueError):
    """A template cannot be used; the message says why, as a sentence."""


def parse_template(template: str, names: Collection[str]) -> tuple[TemplatePart, ...]:
    """Split a template into text and ``names``.

    Raises:
        TemplateError: it has an unknown name, or a name without its end.
    """
    parts: list[TemplatePart] = []
    at = 0
    while (begins := template.find(OPEN, at)) >= 0:
        ends = template.find(CLOSE, begins)
        if ends < 0:
            raise TemplateError(f"{OPEN} at character {begins + 1} has no {CLOSE}.")
        name = template[begins + len(OPEN) : ends].strip(" ")
        if name not in names:
            known = ", ".join(sorted(names))
            raise TemplateError(f"There is no value {name[:60]!r}. The names are: {known}.")
        if begins > at:
            parts.append(TemplatePart(template[at:begins], is_name=False))
        parts.append(TemplatePart(name, is_name=True))
        at = ends + len(CLOSE)
    if at < len(template):
        parts.append(TemplatePart(template[at:], is_name=False))
    return tuple(parts)


def render_template(parts: tuple[TemplatePart, ...], values: Mapping[str, str]) -> str:
    """Return the text of a template with its values; one that is missing is empty."""
    return "".join(values.get(part.text, "")[:VALUE_CHARS] if part.is_name else part.text for part in parts)


def template_pattern(names: Collection[str]) -> str:
    """Return the regular expression of the templates that are accepted, for OpenAPI."""
    alternatives = "|".join(sorted(name.replace(".", r"\.") for name in names))
    return rf"^([^{{]|\{{[^{{]|\{{\{{ *({alternatives}) *\}}\}})*\{{?$"
