"""A KV cache in few bits, and its baselines."""
