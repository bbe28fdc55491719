"""
One contract for every dialect.

The same tests run against the database's own dialect and against the portable one,
on a connection of the runtime's and on one of a user's. Which database that is, the
environment says (see tests/settings.py).
"""
