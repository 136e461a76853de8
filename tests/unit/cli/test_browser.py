"""Pages where there is no desktop: a live demo says how to see its page."""

from __future__ import annotations

import pytest

from cli.browser import show_page

PAGE = "http://127.0.0.1:8081/sessions/ses_1"


def test_without_a_desktop_the_way_to_the_page_is_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    for opened in (None, True):
        show_page(PAGE, opened)
        said = capsys.readouterr().err
        assert PAGE in said
        assert "ssh -L 8081:127.0.0.1:8081" in said
    show_page(PAGE, False)
    assert capsys.readouterr().err == "", "who wants no page needs no advice"
