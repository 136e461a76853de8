"""``saccade key``: create an API key; only its hash is stored. ``saccade key service`` is in service_key.py."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from pathlib import Path
from typing import Any

import click

from cli.failure import USAGE, Failure
from cli.operators.sandbox_key import sandbox
from cli.operators.service_key import service
from cli.output import print_json, print_line, print_note
from contracts.audit import SYSTEM
from contracts.ids import TENANT_PATTERN


@click.group(invoke_without_command=True)
@click.option(
    "--tenant",
    default="local",
    show_default=True,
    help="Tenant whose jobs and files the key gives access to; _system for an operator of all tenants.",
)
@click.option(
    "--scope",
    "scopes",
    type=click.Choice(["read", "write", "operate"]),
    multiple=True,
    help="What the key permits; may be repeated. [default: read and write; operate for _system]",
)
@click.option("--id", "key_id", help="Id of the key. [default: random]")
@click.option("--file", "keys_file", type=click.Path(path_type=Path), help="Add the key's entry to this file.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON value per line.")
@click.pass_context
def key(
    context: click.Context,
    *,
    tenant: str,
    scopes: tuple[str, ...],
    key_id: str | None,
    keys_file: Path | None,
    as_json: bool,
) -> None:
    """Create an API key. The key is shown once; the server stores its hash (SACCADE_API_KEYS_FILE)."""
    if context.invoked_subcommand:
        return
    if tenant == SYSTEM and set(scopes) - {"operate"}:
        raise Failure(
            f"A key of the tenant {SYSTEM} has the scope operate alone.",
            code="usage",
            exit_code=USAGE,
            hint="Create another key for the tenant whose jobs it reads and writes.",
        )
    if tenant != SYSTEM and not re.match(TENANT_PATTERN, tenant):
        raise Failure(f"--tenant {tenant}: use lower-case letters, digits, - and _.", code="usage", exit_code=USAGE)
    permitted = set(scopes) or ({"operate"} if tenant == SYSTEM else {"read", "write"})
    key_id = key_id or f"key-{secrets.token_hex(4)}"
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", key_id):
        raise Failure(f"--id {key_id}: use letters, digits, - and _.", code="usage", exit_code=USAGE)
    secret = secrets.token_urlsafe(32)
    digest = hashlib.sha256(secret.encode()).hexdigest()
    entry = {"id": key_id, "sha256": digest, "tenant": tenant, "scopes": sorted(permitted)}
    if keys_file:
        add_key(keys_file, entry)
    if as_json:
        print_json({"key": f"{key_id}.{secret}", "entry": entry})
        return
    print_line(f"{key_id}.{secret}")
    print_note("\nThe key is shown once. Use it as SACCADE_API_KEY, or in the header Authorization: Bearer <key>.")
    if keys_file:
        print_note(f"Its hash is in {keys_file}; servers whose SACCADE_API_KEYS_FILE is that file accept it at once.")
    else:
        print_note("Add this entry to the list in the keys file (SACCADE_API_KEYS_FILE):")
        print_note(json.dumps(entry))


key.add_command(service)
key.add_command(sandbox)


def add_key(keys_file: Path, entry: dict[str, Any]) -> None:
    """Add an entry to a keys file; a missing file is created.

    The file is written in place, not replaced: a mount in a container follows the inode. It is readable by all, because
    services in containers are other users, and a hash of a random secret gives no access.

    Raises:
        Failure: the file is not a list of keys, or already has a key with this id.
    """
    if keys_file.is_dir():
        hint = f"A container engine created it, because the file was missing: rmdir {keys_file}"
        raise Failure(f"{keys_file} is a folder.", code="keys_file_unreadable", hint=hint)
    try:
        entries = json.loads(keys_file.read_text()) if keys_file.exists() else []
        known = {known_entry["id"] for known_entry in entries if "id" in known_entry}  # the others are limits
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise Failure(
            f"{keys_file} is not a list of API keys.", code="keys_file_unreadable", hint="Name a new file."
        ) from error
    if entry["id"] in known:
        raise Failure(f"{keys_file} already has a key {entry['id']}.", code="key_exists", hint="Use another --id.")
    keys_file.write_text(json.dumps([*entries, entry], indent=2) + "\n")
    keys_file.chmod(0o644)
