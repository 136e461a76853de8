"""Requests to addresses that others choose: allowed addresses, name resolution, bounded sockets (against SSRF)."""
