"""Snapshots of the view, so that a gateway on a new machine does not read all of history."""
