"""
Processes: a model with a ``run()``, executed in an operating-system process of its own.

Optional: add ``"windlass.processes"`` to INSTALLED_APPS. ``models`` has the two base
classes, ``backends`` those who run processes; the runtime of Windlass does by default.
"""
