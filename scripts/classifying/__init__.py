"""The classifiers that `classifiers` measures: a file a kind, and the sets that all read."""
