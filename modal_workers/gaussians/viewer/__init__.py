"""The splat viewer that pages of ours have in them: Spark and three.js as one ES module, which loads nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Final

#: The folder of the module and of its licences; built by deploy/session_page.
FOLDER: Final = Path(__file__).parent
MODULE: Final = FOLDER / "splat_viewer.js"
