"""Product photos to a splat or a NeRF, and that to an orbit of transparent frames: a pipeline of five stages."""
