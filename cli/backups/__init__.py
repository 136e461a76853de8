"""Backups of a system: its streams and its bucket in a folder, and a new system of such a folder."""
