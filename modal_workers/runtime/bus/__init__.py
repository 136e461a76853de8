"""Events of the run's job, by NATS or by HTTP through the gateway."""
