"""Shared by jobs, uploads and sessions: their view, their events on the bus, waiting for an end, pagination."""
