"""An app whose first claim that finds jobs stands still before its commit."""

import os
import signal
from pathlib import Path

from django.apps import AppConfig
from django.db import transaction

# The file that says so.
VARIABLE = "WINDLASS_TEST_FROZEN"


class FrozenClaims(AppConfig):
    name = "tests.integration.frozen_claims"
    label = "frozen_claims"

    def ready(self):
        # Not before all models are there.
        from windlass import db

        dialect = type(db.dialect("default"))
        claim = dialect.claim

        def claim_and_freeze(self, *args):
            with transaction.atomic(using=self.database):
                found = claim(self, *args)
                here = Path(os.environ[VARIABLE])
                if found and not here.exists():
                    here.touch()
                    os.kill(os.getpid(), signal.SIGSTOP)
            return found

        dialect.claim = claim_and_freeze
