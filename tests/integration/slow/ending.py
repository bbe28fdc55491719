"""An app that stands still when Python takes itself down and handles no signal."""

from django.apps import AppConfig

from tests.integration.slow import stand_still


class SlowEnd(AppConfig):
    """Has something in its module, which goes with the interpreter."""

    name = "tests.integration.slow.ending"
    label = "slow_end"


class _Last:
    def __del__(self, stand_still=stand_still):
        stand_still()


last = _Last()
