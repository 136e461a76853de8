"""Targets that the server sends replays to: webhook endpoints and sandboxes."""
