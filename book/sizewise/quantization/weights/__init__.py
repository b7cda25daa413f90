"""Weights in few bits: codes, layers that store them, pruning, outliers."""
