"""Sending of webhooks: lanes, circuit breakers, attempts and their records."""
