"""Photos are gathered, shaped in shards, and bound."""
