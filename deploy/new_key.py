"""Makes an API key: adds its hash to a keys file and shows the key once. Standard library only; runs anywhere.

The keys file holds hashes of random secrets, nothing that gives access, and containers read it as another user:
it is readable by all.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import secrets
import sys
from pathlib import Path


def main() -> int:
    """Add a key to the file and write ``<id>.<secret>`` to standard output."""
    parser = argparse.ArgumentParser(description="Make an API key; its hash is added to the keys file.")
    parser.add_argument("--file", type=Path, required=True, help="keys file (SACCADE_API_KEYS_FILE); made if missing")
    parser.add_argument("--tenant", required=True, help="whom the key acts for")
    parser.add_argument("--id", help="name of the key, shown in logs; random if left out")
    parser.add_argument("--scope", action="append", choices=["read", "write"], help="may be repeated; both by default")
    given = parser.parse_args()

    keys = json.loads(given.file.read_text()) if given.file.exists() else []
    key_id = given.id or f"key_{secrets.token_hex(6)}"
    if any(key["id"] == key_id for key in keys):
        sys.stderr.write(f"There is a key {key_id!r} in {given.file} already: choose another --id.\n")
        return 1
    secret = secrets.token_urlsafe(32)
    digest = hashlib.sha256(secret.encode()).hexdigest()
    keys.append({"id": key_id, "sha256": digest, "tenant": given.tenant, "scopes": given.scope or ["read", "write"]})
    # In place, not by renaming: a file mounted into a container is followed by its inode.
    given.file.write_text(json.dumps(keys, indent=2) + "\n")
    given.file.chmod(0o644)
    sys.stdout.write(f"{key_id}.{secret}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
