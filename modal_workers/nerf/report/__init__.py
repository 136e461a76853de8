"""The last stage: what people look at, and the figures that say how far it can be trusted."""
