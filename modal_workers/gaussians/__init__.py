"""Gaussian splats: parameters, a differentiable rasteriser, training and files; independent of the bus."""
