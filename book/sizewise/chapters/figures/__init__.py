"""The figures of the book, one function each: a table in, Axes out. One file a chapter."""

import logging

# Before matplotlib is imported: where no home folder can be written, or its list of fonts is made
# for the first time, it says so, in the middle of a chapter.
logging.getLogger("matplotlib").setLevel(logging.ERROR)
