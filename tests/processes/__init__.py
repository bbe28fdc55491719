"""Processes: the tests, and the app with the models that they run."""
