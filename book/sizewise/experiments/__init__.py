"""A list of independent runs in processes or on Ray, and what recording scripts share."""
