"""A survey of the running Python's standard library, one job for each module."""
