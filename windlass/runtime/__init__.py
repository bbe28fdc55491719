"""Loops: the operating-system processes and threads that do the work."""
