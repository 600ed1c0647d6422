"""What a server counts, as Prometheus reads it.

All requests pass one front process, however many workers answer them, so that it counts for all.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping
from typing import Any

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """Counters of one server, from its start."""

    def __init__(self) -> None:
        self.requests: Counter[int] = Counter()
        self.answers: Counter[str] = Counter()
        self.abstentions = 0
        self.timeouts = 0
        self._buckets = [0] * (len(BUCKETS) + 1)
        self._seconds = 0.0

    def note(self, status: int, seconds: float, row: Mapping[str, Any] | None = None) -> None:
        """Count one request.

        Args:
            status: What it was answered with.
            seconds: From its first byte to its answer.
            row: The system's answer, where there is one.
        """
        self.requests[status] += 1
        self._buckets[bisect_left(BUCKETS, seconds)] += 1
        self._seconds += seconds
        if row is None:
            return
        self.timeouts += bool(row["timed_out"])
        self.abstentions += bool(row["abstained"])
        if row["stage"] is not None:
            self.answers[row["stage"]] += 1

    def text(self) -> str:
        """All counters in Prometheus' text format."""
        statuses = {f'{{status="{s}"}}': n for s, n in sorted(self.requests.items())}
        stages = {f'{{stage="{_escaped(s)}"}}': n for s, n in sorted(self.answers.items())}
        parts = [
            *_counter("recuse_requests_total", "Requests, by HTTP status.", statuses),
            *_counter("recuse_answers_total", "Answers, by who gave them.", stages),
            *_counter("recuse_abstentions_total", "Nobody answered.", {"": self.abstentions}),
            *_counter("recuse_timeouts_total", "Time ran out.", {"": self.timeouts}),
            *self._histogram("recuse_latency_seconds", "From first byte to answer."),
        ]
        return "\n".join(parts) + "\n"

    def _histogram(self, name: str, about: str) -> list[str]:
        lines, total = [f"# HELP {name} {about}", f"# TYPE {name} histogram"], 0
        for bound, count in zip((*map(str, BUCKETS), "+Inf"), self._buckets, strict=True):
            total += count
            lines.append(f'{name}_bucket{{le="{bound}"}} {total}')
        return [*lines, f"{name}_sum {self._seconds:.6f}", f"{name}_count {total}"]


def _counter(name: str, about: str, values: Mapping[str, int]) -> list[str]:
    head = [f"# HELP {name} {about}", f"# TYPE {name} counter"]
    return head + [f"{name}{labels} {value}" for labels, value in values.items()]


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


__all__ = ["BUCKETS", "Metrics"]
