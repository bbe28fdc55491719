"""Rules: everything that may happen to a job, and nothing about where it runs."""
