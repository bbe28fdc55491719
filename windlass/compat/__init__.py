"""
The names and commands of earlier packages, thin over Windlass: an optional app.

What is here says in other words what ``windlass.api`` and ``manage.py windlass`` do, so
that a project can change its engine first and its code later.
"""
