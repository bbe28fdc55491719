"""
The executor ``sandbox``: ``run()`` inside of an OCI runtime, runsc, crun or runc.

``launching`` starts a sandbox and waits for it, ``layout`` says what is to be seen
inside, ``bundles`` keeps the directories, ``inside`` is what runs in there. What comes
out again is believed as far as ``border`` lets it.
"""
