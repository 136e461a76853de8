"""The WebSocket of a live session."""
