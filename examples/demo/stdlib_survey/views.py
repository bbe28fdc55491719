"""One page: how many jobs are in which state, and a button that starts a survey."""

from django.contrib import messages
from django.db.models import Count
from django.shortcuts import redirect, render

from windlass.models import Job

from . import survey


def index(request):
    """Show the counts; on POST enqueue a survey from inside the request."""
    if request.method == "POST":
        started = survey.start(survey.modules())
        messages.success(request, f"Enqueued {started.size} jobs.")
        return redirect("index")
    counts = Job.objects.order_by().values("state").annotate(jobs=Count("pk"))
    return render(request, "stdlib_survey/index.html", {"counts": counts})
