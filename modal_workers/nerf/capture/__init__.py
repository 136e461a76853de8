"""First stage: read, check and prepare the photos before any GPU is paid for."""
