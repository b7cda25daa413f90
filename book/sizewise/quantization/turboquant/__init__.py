"""TurboQuant: random rotations, optimal scalar codebooks, theory."""
