"""Runtime of a live session's worker: frames and joints in; acknowledgements, figures and model chunks out."""
