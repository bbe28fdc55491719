"""An app with one process."""
