"""Authentication: API keys, tickets for browsers, tokens for workers."""
