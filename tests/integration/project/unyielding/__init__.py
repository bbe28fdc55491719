"""An app that lets a test get the runtime into trouble which no task can cause."""
