"""
Who runs processes: the runtime of Windlass, the caller itself, or whoever is written.

A backend has ``dispatch(process)``, which gives back the ids of what runs the process
and of what watches it, ``kill(task_id)`` and ``revoke_scheduled(task_id)``. No more is
asked of it. It may say more: ``is_transactional`` (a start is one transaction with its
dispatch), ``ends_later`` (it moves what was killed itself, when that is dead),
``settle(process)`` (called now and then by who waits) and ``check()`` (system checks).
"""
