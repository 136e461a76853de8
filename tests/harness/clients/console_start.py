"""Files that are dropped on the console's Start page, made in the browser."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.harness.clients.console_browser import ConsoleTab

_MODIFIED_MS = 1_750_000_000_000


@dataclass(frozen=True)
class DroppedFile:
    """A file; ``padding_bytes`` of zeros follow its content, in a box that players of MP4 skip."""

    name: str
    content: bytes
    media_type: str = "video/mp4"
    padding_bytes: int = 0

    def expression(self) -> str:
        """Return JavaScript that makes it."""
        head = struct.pack(">I4s", self.padding_bytes, b"free") if self.padding_bytes else b""
        text = base64.b64encode(self.content + head).decode()
        options = json.dumps({"type": self.media_type, "lastModified": _MODIFIED_MS})
        zeros = f"new Uint8Array({max(0, self.padding_bytes - 8)})"
        parts = f"[Uint8Array.from(atob('{text}'), (c) => c.charCodeAt(0)), {zeros}]"
        return f"new File({parts}, {json.dumps(self.name)}, {options})"


async def drop(tab: ConsoleTab, *files: DroppedFile) -> None:
    """Drop files on whatever page is shown."""
    made = ", ".join(file.expression() for file in files)
    await tab.evaluate(f"""(() => {{
      const dataTransfer = new DataTransfer();
      for (const file of [{made}]) dataTransfer.items.add(file);
      const dropped = new DragEvent("drop", {{ dataTransfer, bubbles: true, cancelable: true }});
      document.querySelector("main").dispatchEvent(dropped);
    }})()""")


async def drag_over(tab: ConsoleTab, kind: str, files: Sequence[Path], x: float, y: float) -> None:
    """Let the browser tell that files of this machine entered the page, hang over a place of it, or were dropped."""
    dragged = {"items": [], "files": [str(file) for file in files], "dragOperationsMask": 1}
    await tab.page.tab.send("Input.dispatchDragEvent", type=kind, x=x, y=y, data=dragged)


async def drag(tab: ConsoleTab, source: str, target: str) -> None:
    """Drag one element of the page onto another."""
    await tab.evaluate(f"""(() => {{
      const dataTransfer = new DataTransfer();
      const tell = (selector, kind) => document.querySelector(selector)
        .dispatchEvent(new DragEvent(kind, {{ dataTransfer, bubbles: true, cancelable: true }}));
      tell({json.dumps(source)}, "dragstart");
      tell({json.dumps(target)}, "dragover");
      tell({json.dumps(target)}, "drop");
    }})()""")


async def block(tab: ConsoleTab, patterns: Sequence[str]) -> None:
    """Let requests to these addresses fail, as with a broken connection; none again with an empty list."""
    await tab.page.tab.send("Network.setBlockedURLs", urls=list(patterns))


def parts_sent(tab: ConsoleTab, since: int = 0) -> list[str]:
    """Return the numbers of the parts that were sent to the bucket, from an index of what the browser told on."""
    told = [
        said["params"]["request"]
        for said in tab.page.browser.told[since:]
        if said["method"] == "Network.requestWillBeSent"
    ]
    puts = [request["url"] for request in told if request["method"] == "PUT"]
    return [url.partition("partNumber=")[2].partition("&")[0] for url in puts]
