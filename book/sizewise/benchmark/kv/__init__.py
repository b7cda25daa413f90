"""Attention over a quantized KV cache, checked and timed on a device."""
