"""Webhook endpoints: their store, secrets, rules and HTTP routes."""
