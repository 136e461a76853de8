"""Credentials files of ``saccade key service``, in both of their forms."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from contracts.consumers import JETSTREAM_API

_PART: Final = re.compile(r"-+BEGIN (?P<name>[A-Z ]+)-+\s*(?P<text>\S+)\s*-+END (?P=name)-+")
#: Tag of a token that says how JetStream's requests begin in its account.
_API_TAG: Final = "api:"


@dataclass(frozen=True)
class Credentials:
    """Content of a credentials file."""

    #: Options of ``nats.connect``.
    options: dict[str, Any]
    #: Beginning of JetStream's requests.
    api_prefix: str = JETSTREAM_API


def read_credentials(file: str | Path) -> Credentials:
    """Read a file with a token and its seed, or with a seed alone, whose public key the server knows.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not a credentials file.
    """
    parts = {found["name"]: found["text"] for found in _PART.finditer(Path(file).read_text())}
    seed, token = parts.get("USER NKEY SEED"), parts.get("NATS USER JWT")
    if seed is None:
        raise ValueError(f"{file} is not a file of NATS credentials")
    if token is None:
        return Credentials({"nkeys_seed_str": seed})
    return Credentials({"user_credentials": str(file)}, _api_prefix(token))


def _api_prefix(token: str) -> str:
    """Return what a token says of JetStream; the server checks the token, nobody has to here."""
    claims = token.split(".")[1]
    tags = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4))).get("nats", {}).get("tags") or []
    named = [tag.removeprefix(_API_TAG) for tag in tags if tag.startswith(_API_TAG)]
    return named[0] if named else JETSTREAM_API
