"""The first stage: what was sent is read, judged and made ready, before any GPU is paid for."""
