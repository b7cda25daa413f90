"""Speed and memory of real architectures on the device at hand: its ceilings, and what is left."""
