"""Access to a job's events: by NATS or by HTTP through the gateway."""
