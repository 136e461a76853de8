"""Generator of API keys: adds a key's hash to a keys file and prints the key once. Standard library only.

The keys file is readable by all: it holds hashes of random secrets, which give no access, and containers read it as
another user.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import secrets
import sys
from pathlib import Path


def main() -> int:
    """Add a key to the file and print ``<id>.<secret>``."""
    parser = argparse.ArgumentParser(description="Create an API key and add its hash to the keys file.")
    parser.add_argument("--file", type=Path, required=True, help="keys file (SACCADE_API_KEYS_FILE); created if needed")
    parser.add_argument("--tenant", required=True, help="tenant that the key belongs to")
    parser.add_argument("--id", help="name of the key, shown in logs; random by default")
    parser.add_argument("--scope", action="append", choices=["read", "write"], help="may be repeated; both by default")
    given = parser.parse_args()

    keys = json.loads(given.file.read_text()) if given.file.exists() else []
    key_id = given.id or f"key_{secrets.token_hex(6)}"
    if any(key["id"] == key_id for key in keys):
        sys.stderr.write(f"{given.file} has a key {key_id!r} already: choose another --id.\n")
        return 1
    secret = secrets.token_urlsafe(32)
    digest = hashlib.sha256(secret.encode()).hexdigest()
    keys.append({"id": key_id, "sha256": digest, "tenant": given.tenant, "scopes": given.scope or ["read", "write"]})
    # Written in place, not renamed: a mount in a container follows the inode.
    given.file.write_text(json.dumps(keys, indent=2) + "\n")
    given.file.chmod(0o644)
    sys.stdout.write(f"{key_id}.{secret}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
