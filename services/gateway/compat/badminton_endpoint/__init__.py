"""The replaced badminton system's GPU endpoint: its Convex site sends a video here and is called back."""
