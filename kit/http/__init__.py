"""HTTP of every service: server, problem+json errors, health, body limit, OpenAPI."""
