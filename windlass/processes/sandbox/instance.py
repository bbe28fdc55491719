"""
A process on its way into a sandbox: its columns as text, for there is no database.

Fields say themselves what they are as text and what that text means, as for Django's
fixtures. Columns of parents are columns here, so a process of several tables is whole.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.db.models import JSONField

if TYPE_CHECKING:
    from windlass.processes.models import BaseProcess


def pack(process: BaseProcess) -> dict[str, Any]:
    """A process as JSON can say it."""
    fields = process._meta.concrete_fields
    return {
        "label": process._meta.label,
        "database": process._windlass_database(),
        "values": {field.attname: _said(field, process) for field in fields},
    }


def unpack(said: dict[str, Any]) -> BaseProcess:
    """The process again, as if it had been read from the database."""
    model: Any = apps.get_model(said["label"])
    fields = model._meta.concrete_fields
    values = [_meant(field, said["values"][field.attname]) for field in fields]
    names = [field.attname for field in fields]
    process: BaseProcess = model.from_db(said["database"], names, values)
    return process


def _said(field: Any, process: BaseProcess) -> Any:
    value = field.value_from_object(process)
    if value is not None and isinstance(field, JSONField):
        return json.dumps(value, cls=field.encoder)
    if value is None or type(value) in (bool, int, str):
        return value
    return field.value_to_string(process)


def _meant(field: Any, value: Any) -> Any:
    if value is None:
        return None
    if isinstance(field, JSONField):
        return json.loads(value, cls=field.decoder)
    # What the database computes is of the kind of its result.
    return getattr(field, "output_field", field).to_python(value)
