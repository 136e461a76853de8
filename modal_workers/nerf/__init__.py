"""Product photos to a splat or NeRF model and an orbit of transparent frames: a pipeline of five stages."""
