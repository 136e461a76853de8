"""Parts of tenants in streams that delete their oldest: who has more than its part loses its own oldest first."""
