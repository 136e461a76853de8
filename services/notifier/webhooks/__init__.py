"""Webhooks: who gets which event, signed, at least once, whatever else is slow or dead."""
