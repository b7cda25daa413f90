"""Rows, published facts, prices, downloads and hub files: what comes from outside."""
