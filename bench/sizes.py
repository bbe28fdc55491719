"""How much of what each subject takes."""

from dataclasses import dataclass

Figures = dict[str, float]


@dataclass(frozen=True)
class Sizes:
    """How many jobs each subject takes."""

    enqueue: int = 5_000
    enqueue_all: int = 50_000
    drain: int = 100_000
    latency: int = 300
    coroutines: int = 2_000
    others: int = 1_000_000
    beside: int = 100_000
    snapshot: int = 200_000
    schedules: int = 10_000
    waits: int = 200
    steps: int = 5_000
    hot: int = 5_000
    keyed: int = 40_000
    lines: int = 500_000
    lines_as_before: int = 3_000
    depth: int = 1_000_000
    seen: int = 200
    begun: int = 60
    together: int = 50
    watched: float = 20.0
    thorough: bool = True


SMOKE = Sizes(
    *(200, 500, 400, 10, 50, 1_000, 300, 300, 100, 5, 30, 60, 300),
    *(2_000, 50, 2_000, 5, 4, 3, 0.5),
    thorough=False,
)
