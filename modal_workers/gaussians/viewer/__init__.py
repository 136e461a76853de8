"""The splat viewer of the HTML pages: Spark and three.js as one ES module, which loads nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Final

#: Folder of the module and its licences; built by deploy/session_page.
FOLDER: Final = Path(__file__).parent
MODULE: Final = FOLDER / "splat_viewer.js"
