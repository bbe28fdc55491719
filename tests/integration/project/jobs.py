"""The setting JOBS of the runtime under test; it is read before any app is loaded."""

STEPS = "tests.integration.project.stepped"
JOBS = {
    "every_kind": [f"{STEPS}.{name}" for name in ("first", "alone", "later", "last")],
    "gated": [f"{STEPS}.{name}" for name in ("first", "gated", "last")],
    "endless": {
        "tasks": [f"{STEPS}.{name}" for name in ("first", "endless", "last")],
        "failure_hook": f"{STEPS}.note_failure",
    },
}
