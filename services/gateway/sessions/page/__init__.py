"""HTML page of a live session."""
