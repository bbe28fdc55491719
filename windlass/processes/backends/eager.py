"""Runs a process in the thread that starts it: for tests and local development."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from windlass.processes.models import BaseProcess


class EagerBackend:
    """Executes at once. An exception of ``run()`` is raised by ``start()``."""

    def dispatch(self, process: BaseProcess) -> tuple[str, str]:
        """Execute it, to its end."""
        process.execute()
        return str(uuid.uuid4()), ""

    def kill(self, task_id: str) -> None:
        """Do nothing: what is executed here ends by itself."""

    def revoke_scheduled(self, task_id: str) -> None:
        """Do nothing: no watchdog waits anywhere."""
