"""Live session in which a vision-language model watches camera frames and says what happens."""
