"""Sending: lanes, circuit breaker, signatures, address guard."""
