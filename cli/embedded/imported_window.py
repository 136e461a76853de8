"""Mark of a data folder that holds a window of another system's events: it is shown, and nothing in it is worked on."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from cli.failure import Failure

_FILE: Final = "imported.json"


class ImportedWindow(BaseModel):
    """An imported window of events."""

    model_config = ConfigDict(frozen=True)

    #: Name of the file that it came from.
    file: str
    #: False until every event is stored.
    complete: bool
    #: Tenants by their number of events, and the one that the user of this machine sees.
    tenants: dict[str, int]
    tenant: str
    first: int
    last: int
    events: int
    redacted: bool

    def save(self, folder: Path) -> None:
        """Write the mark."""
        part = folder / f"{_FILE}.part"
        part.write_text(self.model_dump_json(indent=2) + "\n")
        part.replace(folder / _FILE)

    @classmethod
    def of(cls, folder: Path) -> Self | None:
        """Return the mark of a data folder; None of a folder of an own system.

        Raises:
            Failure: the import was interrupted, or the mark cannot be read.
        """
        file = folder / _FILE
        if not file.exists():
            return None
        try:
            window = cls.model_validate_json(file.read_bytes())
        except ValidationError as error:
            raise Failure(f"{file} cannot be read.", code="folder_unknown", hint=f"Delete {folder}.") from error
        if not window.complete:
            raise Failure(
                f"The import of {window.file} into {folder} was interrupted.",
                code="import_incomplete",
                hint=f"Delete {folder}, and import the file again.",
            )
        return window
