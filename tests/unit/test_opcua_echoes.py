"""What a write of ours is heard twice of is published once, and nothing else is held back."""

from __future__ import annotations

from tagwerk.actors.opcua.logic.echoes import ECHO_LIMIT, Echoes
from tagwerk.protocols import quality as q
from tagwerk.protocols.samples import Samples, ValueType, make


def rows(*values: tuple[int, float, int], quality: int = 0) -> Samples:
    handles, numbers, times = zip(*values, strict=True)
    return make(ValueType.FLOAT, list(handles), list(numbers), list(times), quality)


def values_of(batch: Samples) -> list[float]:
    return [float(value) for value in batch.values]


def test_the_notification_after_the_read_back_is_an_echo_once() -> None:
    echoes = Echoes()
    with echoes.writing(1):
        assert values_of(echoes.read_back(rows((1, 5.0, 100)))) == [5.0]
    news = echoes.notified(rows((2, 7.0, 100), (1, 5.0, 100), (3, 8.0, 100)))
    assert values_of(news) == [7.0, 8.0]
    assert values_of(echoes.notified(rows((1, 5.0, 100)))) == [5.0]


def test_the_read_back_after_the_notification_is_the_echo() -> None:
    echoes = Echoes()
    with echoes.writing(1):
        assert values_of(echoes.notified(rows((1, 5.0, 100)))) == [5.0]
        assert len(echoes.read_back(rows((1, 5.0, 100)))) == 0
    assert values_of(echoes.notified(rows((1, 5.0, 100)))) == [5.0]


def test_many_writes_in_one_scan_each_have_their_echo() -> None:
    echoes = Echoes()
    for value in (1.0, 2.0, 1.0):
        with echoes.writing(1):
            echoes.read_back(rows((1, value, 100)))
    assert len(echoes.notified(rows((1, 1.0, 100), (1, 2.0, 100), (1, 1.0, 100)))) == 0


def test_what_was_on_its_way_before_the_write_is_news_and_the_echo_is_still_one() -> None:
    echoes = Echoes()
    with echoes.writing(1):
        echoes.read_back(rows((1, 5.0, 100)))
    assert values_of(echoes.notified(rows((1, 4.0, 90), (1, 5.0, 100)))) == [4.0]


def test_after_other_news_nothing_is_an_echo() -> None:
    for other in (rows((1, 6.0, 101)), rows((1, 5.0, 100), quality=q.BAD_SENSOR_FAILURE)):
        echoes = Echoes()
        with echoes.writing(1):
            echoes.read_back(rows((1, 5.0, 100)))
        assert len(echoes.notified(other)) == 1
        assert values_of(echoes.notified(rows((1, 5.0, 100)))) == [5.0]


def test_a_quality_alone_is_compared_too() -> None:
    echoes = Echoes()
    with echoes.writing(1):
        echoes.read_back(rows((1, 5.0, 100)))
    bad = make(ValueType.QUALITY, [1], None, [100], [q.BAD_NO_COMMUNICATION])
    assert len(echoes.notified(bad)) == 1
    assert values_of(echoes.notified(rows((1, 5.0, 100)))) == [5.0]


def test_texts() -> None:
    echoes = Echoes()
    batch = make(ValueType.STR, [1], ["on"], [100])
    with echoes.writing(1):
        echoes.read_back(batch)
    assert len(echoes.notified(batch)) == 0


def test_a_new_session_begins_without_echoes() -> None:
    echoes = Echoes()
    with echoes.writing(1):
        echoes.read_back(rows((1, 5.0, 100)))
    echoes.forget()
    assert values_of(echoes.notified(rows((1, 5.0, 100)))) == [5.0]


def test_a_server_that_never_notifies_costs_a_bounded_memory() -> None:
    echoes = Echoes()
    for time_ns in range(ECHO_LIMIT + 1):
        with echoes.writing(1):
            echoes.read_back(rows((1, 5.0, time_ns)))
    assert len(echoes.notified(rows((1, 5.0, 0)))) == 1  # the oldest was forgotten
    assert len(echoes.notified(rows((1, 5.0, ECHO_LIMIT)))) == 0


def test_a_write_that_failed_leaves_nothing() -> None:
    echoes = Echoes()
    with echoes.writing(1):
        pass
    batch = rows((1, 5.0, 100))
    assert echoes.notified(batch) is batch
