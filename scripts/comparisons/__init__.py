"""The comparisons of `bench.py`, one file a subject. A function that returns commands or times."""
