"""
Who runs processes: the runtime of Windlass, the caller itself, or whoever is written.

A backend has ``dispatch(process)``, which gives back the ids of what runs the process
and of what watches it, ``kill(task_id)`` and ``revoke_scheduled(task_id)``.
"""
