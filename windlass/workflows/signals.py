"""What workflows announce."""

from django.dispatch import Signal

# A run has ended; sent robustly by a dispatcher, ``run`` is the run, the sender its
# class. After a crash at the wrong moment it may be sent again.
workflow_finished = Signal()
