"""Network guard of webhooks: allowed addresses, name resolution and bounded sockets (server-side request forgery)."""
