"""Takes long to import."""

from tests.integration.slow import stand_still

stand_still()
