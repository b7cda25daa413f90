"""TurboQuant: random rotations, optimal scalar codebooks, packing, theory."""
