"""Snapshots of what the dispatcher has folded, so that a new leader does not read all of history."""
