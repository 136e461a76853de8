"""NATS JetStream: connection, event store, tail of a stream, lease."""
