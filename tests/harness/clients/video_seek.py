"""A seek in a video, timed in a browser's page."""

from __future__ import annotations

import json

from tests.harness.clients.chromium import Tab

_SEEK = """(async () => {
    const video = document.createElement("video");
    const happens = (name) => new Promise((resolve, reject) => {
        video.addEventListener(name, resolve, {once: true});
        video.addEventListener("error", () => reject(new Error(video.error.message)), {once: true});
        setTimeout(() => reject(new Error(`no ${name}`)), %d);
    });
    video.muted = true;
    video.preload = "metadata";
    video.src = %s;
    document.body.append(video);
    await happens("loadedmetadata");
    const begin = performance.now();
    video.currentTime = video.duration * %f;
    await happens("seeked");
    const taken = (performance.now() - begin) / 1000;
    video.src = "";
    video.remove();
    return taken;
})()"""


async def seek(tab: Tab, url: str, *, share: float = 0.9, timeout_s: float = 15.0) -> float:
    """Open a video, jump to a share of its duration, and return after how many seconds that frame is shown.

    Raises:
        AssertionError: it is not shown in time.
    """
    found: float = await tab.evaluate(_SEEK % (timeout_s * 1000, json.dumps(url), share), timeout_s * 2 + 10)
    return found
