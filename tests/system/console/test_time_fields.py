"""Fields of date and time are in the zone in which the console shows times."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.harness.clients.chromium import chromium, pages
from tests.harness.clients.console_modules import FOLDER

pytestmark = pytest.mark.anyio

_READ = """
Promise.all([import('/console/format.js'), import('/console/preferences.js')]).then(([format, { zone }]) => {
  const shown = (name) => {
    zone.value = name;
    const typed = '2026-11-23T17:05';
    const time = format.fieldTime(typed);
    return [format.timeLabel('Since'), time, format.timeField(time), format.timeField(time, { seconds: true })];
  };
  return { utc: shown('utc'), local: shown('local'), none: [format.fieldTime(''), format.timeField('e.12')] };
})
"""


async def test_a_field_means_the_zone_that_the_reader_has_chosen(tmp_path: Path) -> None:
    async with pages({"console": FOLDER}) as origin, chromium(tmp_path / "profile") as browser:
        tab = await browser.open(origin)
        await tab.send("Emulation.setTimezoneOverride", timezoneId="Asia/Kolkata")
        found = await tab.evaluate(_READ)
    typed = ["2026-11-23T17:05", "2026-11-23T17:05:00"]
    assert found["utc"] == ["Since (UTC)", "2026-11-23T17:05:00.000Z", *typed]
    assert found["local"] == ["Since", "2026-11-23T11:35:00.000Z", *typed]
    assert found["none"] == [None, ""]


def test_no_field_reads_its_time_by_itself() -> None:
    fields = [path for path in FOLDER.rglob("*.js") if 'type="datetime-local"' in path.read_text(encoding="utf-8")]
    assert len(fields) > 1
    for path in fields:
        text = path.read_text(encoding="utf-8")
        assert text.count('type="datetime-local"') == text.count("=${timeField("), path
        assert "new Date(" not in text, path
