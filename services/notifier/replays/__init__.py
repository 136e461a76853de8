"""Replays: events of a frozen window, sent again to a target at a pace."""
