"""Video in and out, shared by the workers that read footage: decoding, timestamps, drawing, H.264."""
