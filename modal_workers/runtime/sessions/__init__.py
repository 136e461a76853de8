"""What a live session's worker runs inside: frames and joints in, a verdict on each frame, chunks and figures out."""
