"""One module a chapter: the tables that its notebook shows."""
