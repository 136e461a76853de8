"""Deliveries: planned, attempted, settled."""
