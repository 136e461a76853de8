"""Fourth stage, in shards: renders the frames of the orbit with a transparent background."""
