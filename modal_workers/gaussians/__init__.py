"""Scenes made of Gaussian splats: their parameters, a differentiable rasteriser, training and files; knows no bus."""
