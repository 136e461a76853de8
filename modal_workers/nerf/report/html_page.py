"""Self-contained HTML pages: one file that loads nothing, with a content security policy that forbids the rest."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from modal_workers.gaussians import viewer


def asset(name: str) -> str:
    """Return the text of a file in the folder ``pages``."""
    return files(__package__).joinpath("pages").joinpath(name).read_text(encoding="utf-8")


def write_page(
    path: Path, name: str, *, title: str, style: str, script: str = "", data: Any = None, **parts: str
) -> None:
    """Write a page from the template ``<name>.html`` with the common style and ``<style>.css``.

    ``title`` is escaped here; ``parts`` are HTML and must be escaped already. ``data`` is embedded as JSON.
    """
    style = asset("page.css") + asset(f"{style}.css")
    html = Template(asset(f"{name}.html")).substitute(
        policy=_policy(style, script),
        title=escape(title),
        style=style,
        script=script,
        data=json_text(data),
        **parts,
    )
    path.write_text(html, encoding="utf-8")


def json_text(value: Any) -> str:
    """Return JSON that cannot close the script element around it."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def data_url(body: bytes, media_type: str) -> str:
    """Return a data URL."""
    return f"data:{media_type};base64,{base64.b64encode(body).decode()}"


def viewer_script(own: str) -> str:
    """Return the splat viewer and the page's script as one module; the script finds the viewer as ``VIEWER``.

    Raises:
        ValueError: the bundle does not end with its exports, as esbuild writes them.
    """
    bundle = viewer.MODULE.read_text(encoding="utf-8").rstrip()
    found = re.search(r"export\{([^{}]*)\};?$", bundle)
    if found is None:
        raise ValueError("the splat viewer's bundle has no exports at its end")
    pairs = [export.split(" as ") for export in found[1].split(",")]
    named = ",".join(f"{pair[-1].strip()}:{pair[0].strip()}" for pair in pairs)
    return f"{bundle[: found.start()]}const VIEWER={{{named}}};\n{own}"


def _policy(style: str, script: str) -> str:
    """Return the policy: the page's own script, style and images; Spark's WebAssembly, and its worker from a blob."""

    def digest(text: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    scripts = f"{digest(script)} 'wasm-unsafe-eval'" if script else "'none'"
    return (
        f"default-src 'none'; script-src {scripts}; style-src {digest(style)}; worker-src blob:; "
        "img-src data: blob:; connect-src blob: data:; base-uri 'none'; form-action 'none'"
    )
