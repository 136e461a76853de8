"""HTTP access to the bus for workers that cannot reach NATS."""
