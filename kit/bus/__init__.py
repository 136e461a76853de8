"""NATS JetStream: connection, event store, stream tail, lease, idempotency keys."""
