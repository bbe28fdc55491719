"""
How fast Windlass is on this machine, measured as a user would see it.

``python -m bench`` starts real producers and real ``windlass`` runtimes on databases
of its own, and beside each a raw loop that does the same durable work with nothing
but the database driver. The absolute figures belong to the machine, the ratios to us.
``bench/peers`` compares with other job systems.
"""
