"""Live splat: a Gaussian splat that grows from a robot arm's camera and joints while the arm moves."""
