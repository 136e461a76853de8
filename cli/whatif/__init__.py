"""Replay of a window of events: the decisions of another dispatcher."""
