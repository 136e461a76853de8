"""The shuttle: detection and track."""
