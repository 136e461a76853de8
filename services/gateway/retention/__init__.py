"""Retention of results and uploads: what is older than its tenant's limit leaves the bucket, and events say so."""
