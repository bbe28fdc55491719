"""An app that loses the answer to a claim at the worst moment: when all shall stop."""

import os
import signal

from django.apps import AppConfig
from django.db import OperationalError


class LostAnswers(AppConfig):
    name = "tests.integration.lost_answers"
    label = "lost_answers"

    def ready(self):
        # Not before all models are there.
        from windlass import db

        dialect = type(db.dialect("default"))
        claim = dialect.claim

        def claim_and_lose(self, *args):
            if claim(self, *args):
                os.kill(os.getppid(), signal.SIGTERM)
                raise OperationalError("the connection was lost")
            return []

        dialect.claim = claim_and_lose
