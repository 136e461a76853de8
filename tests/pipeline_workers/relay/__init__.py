"""Small pipeline: photos are gathered, processed in shards and combined."""
