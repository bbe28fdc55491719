"""
The log of a process in a browser: a page, a stream of lines, and progress as JSON.

Who may view the process may look. The stream is of server-sent events, each with the
number of its line, so a browser that connects again goes on where it was. Under WSGI a
stream would hold a worker of the web server, so there it ends with what there is, and
the browser comes back a second later.
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

from asgiref.sync import sync_to_async
from django.apps import apps
from django.core.exceptions import PermissionDenied, ValidationError
from django.core.handlers.asgi import ASGIRequest
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    JsonResponse,
    StreamingHttpResponse,
)
from django.shortcuts import render
from django.views.decorators.http import require_safe

from windlass.processes.ansi import parts
from windlass.processes.following import AsyncFollower
from windlass.processes.models import BaseProcess
from windlass.processes.reading import CHUNK, last_number, look

# Lines that a page begins with, milliseconds until a browser comes back, seconds after
# which a silent stream says that it lives.
LAST, RETRY, BEAT = 500, 1000, 15.0


@require_safe
def log_page(request: HttpRequest, label: str, pk: str) -> HttpResponse:
    """The last lines of a log, which go on as long as the process runs."""
    process = _process(request, label, pk)
    last = last_number(process)
    lines = process.tail(after=max(0, last - LAST), limit=LAST)
    shown = {
        "process": process,
        "label": label,
        "lines": [(line, parts(line.message)) for line in lines],
        "after": lines[-1].sequence if lines else 0,
        "omitted": max(0, last - LAST),
    }
    return render(request, "windlass_processes/log.html", shown)


@require_safe
def log_stream(request: HttpRequest, label: str, pk: str) -> StreamingHttpResponse:
    """The lines after ``Last-Event-ID`` or ``?after=``, as server-sent events."""
    process = _process(request, label, pk)
    after = _number(request.headers.get("Last-Event-ID") or request.GET.get("after"))
    events: Any
    if isinstance(request, ASGIRequest):
        events = _follow(process, after)
    else:
        events = _what_there_is(process, after)
    response = StreamingHttpResponse(events, content_type="text/event-stream")
    response["Cache-Control"] = "no-store"
    # Or a proxy keeps lines until it has many.
    response["X-Accel-Buffering"] = "no"
    return response


@require_safe
def progress(request: HttpRequest, label: str, pk: str) -> JsonResponse:
    """The status and progress of a process."""
    process = _process(request, label, pk)
    said = {"status": process.status, "progress": process.progress_data}
    return JsonResponse(said, headers={"Cache-Control": "no-store"})


def _process(request: HttpRequest, label: str, pk: str) -> BaseProcess:
    try:
        model = apps.get_model(label)
    except (LookupError, ValueError):
        raise Http404("There is no such process.") from None
    if not issubclass(model, BaseProcess):
        raise Http404("There is no such process.")
    name = f"{model._meta.app_label}.view_{model._meta.model_name}"
    user: Any = getattr(request, "user", None)
    if user is None or not user.has_perm(name):
        raise PermissionDenied
    try:
        process: BaseProcess | None = model._base_manager.filter(pk=pk).first()
    except (ValueError, ValidationError):
        process = None
    if process is None:
        raise Http404("There is no such process.")
    return process


def _number(text: str | None) -> int:
    return int(text) if text and text.isascii() and text.isdigit() else 0


def _event(line: Any) -> str:
    said = {
        "sequence": line.sequence,
        "created": line.created.isoformat(),
        "level": line.level,
        "stream": line.stream,
        "attempt": line.attempt,
        "parts": parts(line.message),
    }
    return f"id: {line.sequence}\nevent: line\ndata: {json.dumps(said)}\n\n"


def _end(status: str) -> str:
    return f"event: end\ndata: {json.dumps({'status': status})}\n\n"


def _what_there_is(process: BaseProcess, after: int) -> Iterator[str]:
    yield f"retry: {RETRY}\n\n"
    while True:
        lines, end = look(process, after)
        for line in lines:
            yield _event(line)
            after = line.sequence
        if end is not None:
            yield _end(end)
        if len(lines) < CHUNK:
            return


async def _follow(process: BaseProcess, after: int) -> AsyncIterator[str]:
    yield f"retry: {RETRY}\n\n"
    said_at = time.monotonic()
    with AsyncFollower(process) as follower:
        while True:
            lines, end = await sync_to_async(look)(process, after)
            for line in lines:
                yield _event(line)
                after = line.sequence
            if end is not None:
                yield _end(end)
                return
            if lines:
                said_at = time.monotonic()
            elif time.monotonic() >= said_at + BEAT:
                said_at = time.monotonic()
                yield ": alive\n\n"
            if len(lines) < CHUNK:
                await follower.wait_on_loop()
