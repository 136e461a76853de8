"""A virtual SO-101 with a wrist camera over a generated table top, with true poses and colours."""
