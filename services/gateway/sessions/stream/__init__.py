"""WebSocket of a live session."""
