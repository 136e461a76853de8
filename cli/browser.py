"""Pages in the user's browser, where there is one."""

from __future__ import annotations

import sys
import webbrowser
from urllib.parse import urlsplit

from cli.output import print_note
from cli.settings import DesktopSettings


def has_browser() -> bool:
    """Return whether pages can be shown: on a desktop, or by the command that the user names in ``BROWSER``.

    Without both, Python would start a text browser in this terminal.
    """
    settings = DesktopSettings()
    return sys.platform == "darwin" or bool(settings.display or settings.wayland_display or settings.browser)


def open_in_browser(url: str) -> bool:
    """Open a page in the user's browser; return whether one was found."""
    return has_browser() and webbrowser.open(url)


def how_to_view(url: str) -> str:
    """Return how to see a page of this machine without a desktop."""
    port = urlsplit(url).port or 80
    return (
        f"No desktop here. Open {url} in a browser of this machine, or from another one after: "
        f"ssh -L {port}:127.0.0.1:{port} THIS_MACHINE"
    )


def show_page(page: str, opened: bool | None) -> None:
    """Open a page, by default (``opened`` is None) at a terminal; without a desktop, print how to see it."""
    wanted = sys.stdout.isatty() if opened is None else opened
    if not (wanted and open_in_browser(page)) and opened is not False and not has_browser():
        print_note(f"{how_to_view(page)}\n")
