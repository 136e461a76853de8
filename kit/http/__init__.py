"""What every HTTP service shares: server, problem+json errors, health, OpenAPI."""
