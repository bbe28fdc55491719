"""The processes that are measured, as an app of the measured project."""
