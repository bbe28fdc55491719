"""The names and commands of earlier packages."""
