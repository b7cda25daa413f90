"""Quantization: weight formats, codebooks, rotations, caches, and the bytes really held."""
