"""An app that notes when its hooks are called, and where."""
