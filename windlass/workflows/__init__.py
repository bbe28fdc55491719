"""
Workflows: jobs that wait for jobs. Chains, groups with callbacks, and graphs.

A workflow is written down with ``Workflow``, ``chain`` and ``group``, and becomes a
run of jobs when it is enqueued. Read ``building`` first, then ``engine``.
"""

from windlass.workflows.building import Member, Workflow
from windlass.workflows.shapes import chain, group
from windlass.workflows.signals import workflow_finished

__all__ = ["Member", "Workflow", "chain", "group", "workflow_finished"]
