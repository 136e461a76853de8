"""Requests of attempts as they were sent."""
