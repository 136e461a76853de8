"""Requests made from OpenAPI documents."""
