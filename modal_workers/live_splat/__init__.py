"""Live splat: a robot arm's camera and joints stream in, a Gaussian splat grows while the arm moves."""
