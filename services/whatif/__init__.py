"""Replay of recorded events through the dispatcher's decisions of today, on a virtual clock."""
