from hypothesis import given, settings
from hypothesis import strategies as st

from recuse.report.charts.labels import Box, along, place_labels

AREA = Box(0.0, 0.0, 300.0, 200.0)
POINTS = st.lists(st.tuples(st.floats(0, 300), st.floats(0, 200)), max_size=12)


@settings(max_examples=60)
@given(POINTS, st.data())
def test_no_label_covers_a_mark_or_another_label(points, data):
    texts = [data.draw(st.sampled_from(["", "β=1", "TRADES γ=6"])) for _ in points]
    places = place_labels(points, texts, AREA)
    boxes = [b for b in places if b is not None]
    marks = [Box(x - 5, y - 5, x + 5, y + 5) for x, y in points]
    assert len(places) == len(points)
    for number, box in enumerate(boxes):
        assert box.inside(AREA)
        assert not any(box.overlaps(mark) for mark in marks)
        assert not any(box.overlaps(other) for other in boxes[:number])
    assert all(place is None for place, text in zip(places, texts, strict=True) if not text)


def test_a_lone_point_has_its_label_to_the_right():
    (place,) = place_labels([(100.0, 100.0)], ["core"], AREA)
    assert place is not None
    assert place.left > 105
    assert place.top < 100 < place.bottom


def test_a_name_gives_its_place_to_one_that_finds_no_other():
    points, area = [(25.0, 15.0), (25.0, 25.0)], Box(0.0, 0.0, 100.0, 40.0)
    (alone,) = place_labels(points[:1], ["a"], area)
    first, second = place_labels(points, ["a", "longer name"], area)
    assert alone is not None
    assert first is not None
    assert second is not None
    assert alone.left > points[0][0], "the first choice of all is to the right"
    assert first.right < points[0][0]
    assert second.overlaps(alone)


def test_lines_are_avoided_where_there_is_another_place():
    line = along((110.0, 0.0), (110.0, 200.0))
    (place,) = place_labels([(100.0, 100.0)], ["core"], AREA, avoided=line)
    assert place is not None
    assert not any(place.overlaps(box) for box in line)
    # With lines on both sides of everywhere the label is still written.
    everywhere = [AREA]
    assert place_labels([(100.0, 100.0)], ["core"], AREA, avoided=everywhere)[0] is not None


@given(
    st.tuples(st.floats(0, 300), st.floats(0, 200)), st.tuples(st.floats(0, 300), st.floats(0, 200))
)
def test_a_line_is_covered_from_end_to_end(start, end):
    boxes = along(start, end)
    for fraction in (0.0, 0.31, 1.0):
        x = start[0] + fraction * (end[0] - start[0])
        y = start[1] + fraction * (end[1] - start[1])
        centres = (box.centre for box in boxes)
        assert min(abs(x - cx) + abs(y - cy) for cx, cy in centres) <= 4.0
