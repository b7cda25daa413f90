"""A KV cache in few bits, its baselines and its evaluation."""
