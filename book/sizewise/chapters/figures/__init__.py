"""The figures of the book, one function each: a table in, Axes out. One file a chapter."""
