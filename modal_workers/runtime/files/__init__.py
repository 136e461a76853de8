"""Files of a run: workspace on local disk, cache, artifacts in the bucket."""
