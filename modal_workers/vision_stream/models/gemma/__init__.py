"""Gemma 3: its network, its tokens, and how an answer is generated."""
