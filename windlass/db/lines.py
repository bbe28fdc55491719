"""
Appending lines to a log table, in blocks.

A block is written in the caller's transaction under numbers that the caller has chosen.
The table's unique constraint decides between two writers: the loser wrote nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db import connections, models, transaction

from windlass import db
from windlass.db.records import channel

# When it was said (epoch seconds), level, stream, text.
Said = tuple[float, str, str, str]
COLUMNS = ("process", "sequence", "created", "level", "stream", "message", "attempt")
# A tab, a line's end and a backslash mean something in COPY's text format.
MARKS = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})


def lines_channel(backend_alias: str) -> str:
    """The channel on which followers are told of lines, and of ends of processes."""
    return f"{channel(backend_alias)}/lines"


class Lines:
    """The log table of one model on one database."""

    def __init__(self, model: Any, database: str) -> None:
        self.model, self.database = model, database
        self.rows: Any = models.QuerySet(model, using=database)
        self._copy: str | None = None
        self._knows_copy = False

    def last(self, process_id: Any) -> int:
        """The highest number of a process's lines; 0 without any."""
        numbers = self.rows.filter(process=process_id).order_by("-sequence")
        return int(numbers.values_list("sequence", flat=True).first() or 0)

    def process_exists(self, process_id: Any) -> bool:
        """Whether there is the process that lines are about."""
        field: Any = self.model._meta.get_field("process")
        owners: Any = models.QuerySet(field.related_model, using=self.database)
        own = owners.filter(**{field.target_field.attname: process_id})
        return bool(own.exists())

    def append(
        self, process_id: Any, first: int, said: Sequence[Said], attempt: int
    ) -> None:
        """Write a block; IntegrityError if a number is taken."""
        if copy := self._copy_statement():
            self._append_by_copy(copy, process_id, first, said, attempt)
            return
        moment = db.dialect(self.database).moment
        self.rows.bulk_create(
            [
                self.model(
                    process_id=process_id,
                    sequence=first + place,
                    created=moment(created),
                    level=level,
                    stream=stream,
                    message=message,
                    attempt=attempt,
                )
                for place, (created, level, stream, message) in enumerate(said)
            ],
            batch_size=1000,
        )

    def remove(self, process_id: Any, numbers: range, *, but: str) -> None:
        """Delete the lines with these numbers, but none of that stream."""
        span = (numbers[0], numbers[-1])
        found = self.rows.filter(process=process_id, sequence__range=span)
        # Of its own, for the project may have rows that forbid it.
        with transaction.atomic(using=self.database):
            found.exclude(stream=but).order_by().delete()

    def _append_by_copy(
        self,
        copy: str,
        process_id: Any,
        first: int,
        said: Sequence[Said],
        attempt: int,
    ) -> None:
        own = str(process_id).translate(MARKS)
        connection = connections[self.database]
        rows, second, before, after = [], -1, "", ""
        for number, (created, level, stream, message) in enumerate(said, first):
            whole = int(created)
            if whole != second:
                # To write a moment takes longer than all the rest of a line.
                second, text = whole, self._moment(whole)
                before, after = text[:19], text[19:]
            fraction = int((created - whole) * 1_000_000)
            rows.append(
                f"{own}\t{number}\t{before}.{fraction:06}{after}\t{level}"
                f"\t{stream}\t{_escaped(message)}\t{attempt}\n"
            )
        text = "".join(rows)
        with connection.cursor() as cursor, connection.wrap_database_errors:
            with cursor.copy(copy) as copying:
                copying.write(text)

    def _moment(self, second: int) -> str:
        return db.dialect(self.database).moment(second).isoformat()

    def _copy_statement(self) -> str | None:
        if not self._knows_copy:
            self._knows_copy = True
            connection = connections[self.database]
            if connection.vendor == "postgresql" and self._is_simple():
                from django.db.backends.postgresql.psycopg_any import is_psycopg3

                quote = connection.ops.quote_name
                meta = self.model._meta
                columns = [quote(meta.get_field(n).column) for n in COLUMNS]
                table = quote(meta.db_table)
                if is_psycopg3:
                    self._copy = f"COPY {table} ({', '.join(columns)}) FROM STDIN"
        return self._copy

    def _is_simple(self) -> bool:
        """Whether the database itself fills the columns that are the user's own."""
        meta = self.model._meta
        return not meta.parents and all(
            field.name in COLUMNS
            or isinstance(field, models.AutoField)
            or (field.null and not field.has_default())
            for field in meta.local_concrete_fields
        )


def _escaped(text: str) -> str:
    # Most lines have none of the marks, and to look for them is cheap.
    if "\\" in text or "\n" in text or "\t" in text or "\r" in text:
        return text.translate(MARKS)
    return text
