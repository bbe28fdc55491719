"""
Adapters to other systems, each an app of its own that asks for what it adapts.

They import Windlass, and nothing of Windlass imports them.
"""
