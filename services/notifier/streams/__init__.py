"""Server-sent events: hub, subscribers, history and routes."""
