"""Webhook deliveries: planned from events, projected from attempt records, listed and redelivered over HTTP."""
