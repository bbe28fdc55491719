"""The runtime as a user runs it: real processes, real signals, a real database."""
