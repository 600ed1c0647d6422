"""Where the names of points go, so that no two words and no word and point overlap."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_CHARACTER = 6.1
_LINE = 13.0
_GAP = 8.5
_STEP = 4.0


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels, y downwards."""

    left: float
    top: float
    right: float
    bottom: float

    def overlaps(self, other: "Box") -> bool:
        """Whether the two share any area."""
        return (
            self.left < other.right
            and other.left < self.right
            and self.top < other.bottom
            and other.top < self.bottom
        )

    def inside(self, other: "Box") -> bool:
        """Whether this one lies within ``other``."""
        return (
            self.left >= other.left
            and self.right <= other.right
            and self.top >= other.top
            and self.bottom <= other.bottom
        )

    @property
    def centre(self) -> tuple[float, float]:
        """Its middle."""
        return (self.left + self.right) / 2, (self.top + self.bottom) / 2


def place_labels(
    points: Sequence[tuple[float, float]],
    texts: Sequence[str],
    area: Box,
    *,
    avoided: Sequence[Box] = (),
    radius: float = 5.0,
) -> list[Box | None]:
    """Give each text a free place beside its point.

    The first text chooses first; then those that found no place do, as often as there are texts.
    The first choice that leaves the fewest without a place is taken.

    Args:
        points: Pixel positions.
        texts: One a point; an empty text needs no place.
        area: Labels stay within it.
        avoided: Where a label goes only if there is no other place, such as lines.
        radius: Of the marks, which no label may cover.

    Returns:
        The place of each text, or None where there is none (the hover still names the point).
    """
    marks = [Box(x - radius, y - radius, x + radius, y + radius) for x, y in points]
    candidates = [
        [
            box
            for box in _candidates(x, y, len(text) * _CHARACTER)
            if text and box.inside(area) and not _hits(box, marks)
        ]
        for (x, y), text in zip(points, texts, strict=True)
    ]
    order = list(range(len(texts)))
    best = places = _choose(candidates, order, avoided)
    for _ in texts:
        before, order = order, sorted(order, key=lambda i: places[i] is not None)
        if order == before:
            break
        places = _choose(candidates, order, avoided)
        best = min(best, places, key=lambda found: found.count(None))
    return best


def _choose(
    candidates: Sequence[Sequence[Box]], order: Sequence[int], avoided: Sequence[Box]
) -> list[Box | None]:
    """A place of each among its candidates that no earlier one has taken."""
    places: list[Box | None] = [None] * len(candidates)
    for i in order:
        taken = [box for box in places if box is not None]
        free = [box for box in candidates[i] if not _hits(box, taken)]
        places[i] = next((b for b in free if not _hits(b, avoided)), free[0] if free else None)
    return places


def along(start: tuple[float, float], end: tuple[float, float]) -> list[Box]:
    """Small boxes that cover the straight line between two pixels."""
    (x0, y0), (x1, y1) = start, end
    steps = 1 + int(math.hypot(x1 - x0, y1 - y0) / _STEP)
    spots = [(x0 + (x1 - x0) * i / steps, y0 + (y1 - y0) * i / steps) for i in range(steps + 1)]
    return [Box(x - 1, y - 1, x + 1, y + 1) for x, y in spots]


def _hits(box: Box, others: Sequence[Box]) -> bool:
    return any(box.overlaps(other) for other in others)


def _candidates(x: float, y: float, width: float) -> Iterator[Box]:
    """Beside, above, below, then the corners: what a careful hand would try."""
    half, line = width / 2, _LINE / 2
    near = _GAP + half
    centres = [
        (x + near, y),
        (x - near, y),
        (x, y - _GAP - line),
        (x, y + _GAP + line),
        (x + near - 2, y - line - 3),
        (x + near - 2, y + line + 3),
        (x - near + 2, y - line - 3),
        (x - near + 2, y + line + 3),
    ]
    for cx, cy in centres:
        yield Box(cx - half, cy - line, cx + half, cy + line)
