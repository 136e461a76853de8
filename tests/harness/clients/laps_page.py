"""What the page of the replaced lap comparison does in a browser: sign, PUT, start, poll until an end, read results.

Its order, its requests and the fields that it reads are those of the replaced page: it sends no credential, tells
nobody that an upload is complete, polls until ``finished`` or ``failed``, and shows ``toFixed`` of numbers.
"""

from __future__ import annotations

import json
from typing import Any

from tests.harness.clients.chromium import Tab

_PAGE = """
globalThis.lapsPage = (() => {
  const base = BASE
  const post = async (path, body) => {
    const answer = await fetch(base + path, {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
    })
    if (!answer.ok) throw new Error(`${path} failed: ${answer.status} ${await answer.text()}`)
    return answer.json()
  }
  const upload = async bytes => {
    const file = new File([Uint8Array.from(atob(bytes), c => c.charCodeAt(0))], "a lap.mp4", { type: "video/mp4" })
    const type = file.type || "video/mp4"
    const signed = await post("/sign-upload", { filename: file.name, content_type: type })
    const sent = await fetch(signed.put_url, { method: "PUT", headers: { "Content-Type": type }, body: file })
    if (!sent.ok) throw new Error(`upload failed: ${sent.status} ${await sent.text()}`)
    return { bucket: signed.bucket, key: signed.key }
  }
  const poll = async callId => {
    for (;;) {
      const answer = await fetch(`${base}/jobs/${callId}`)
      if (!answer.ok) throw new Error(`poll failed: ${answer.status} ${await answer.text()}`)
      const job = await answer.json()
      if (job.status === "finished" && job.result) return job.result
      if (job.status === "failed") throw new Error("job failed")
      await new Promise(resolve => setTimeout(resolve, 100))
    }
  }
  const results = async manifest => ({
    title: `Results — ${manifest.job_id}`,
    summary: manifest.summary,
    overlay: manifest.artifacts["overlay.mp4"]?.url,
    metrics: await (await fetch(manifest.artifacts["metrics.csv"].url)).text(),
    insights: await (await fetch(manifest.artifacts["insights.json"].url)).json(),
  })
  const detected = async video => {
    const { laps } = await post("/detect-laps", { video, min_lap_s: 20, max_lap_s: 300, top_k: 6 })
    return laps.map(lap => [Number(lap.start_s.toFixed(2)), Number(lap.end_s.toFixed(2)), lap.score])
  }
  return { post, upload, poll, results, detected }
})()
"""


async def load_laps_page(tab: Tab, base: str) -> None:
    """Load the page's functions; ``base`` is the address that it was built with."""
    await tab.evaluate(_PAGE.replace("BASE", json.dumps(base)) + "; null")


async def use(tab: Tab, name: str, *arguments: Any) -> Any:
    """Call one of the page's functions and return what it returns."""
    return await tab.evaluate(f"lapsPage[{json.dumps(name)}](...{json.dumps(arguments)})")
