"""Erasure of a tenant's data, or of one job or upload, by the dispatcher that leads."""
