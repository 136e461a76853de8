"""Authentication: API keys, Host and Origin checks, tickets for browsers, tokens for workers."""
