"""Notifier: delivers every stored event, in order and once, by server-sent events and webhooks."""
