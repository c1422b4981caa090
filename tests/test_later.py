import pickle
from dataclasses import dataclass, replace

from dtcwsi.later import after, later, then, unread, worked_out_when_read


@worked_out_when_read("costly")
@dataclass(frozen=True)
class Record:
    cheap: int
    costly: int


def counted(value: int, calls: list[int]) -> int:
    calls.append(value)
    return value


def test_a_field_is_worked_out_once_when_it_is_read() -> None:
    calls: list[int] = []
    shared = later(lambda: counted(7, calls))
    one, other = Record(1, shared), Record(2, shared)
    assert one.cheap == 1
    assert not calls
    assert (one.costly, one.costly, other.costly) == (7, 7, 7)
    assert calls == [7]
    assert one == Record(1, 7)
    assert "costly=7" in repr(one)


def test_what_is_made_of_a_field_waits_as_it_does() -> None:
    calls: list[int] = []
    waiting, known = Record(1, later(lambda: counted(7, calls))), Record(1, 7)
    made = [then(record, "costly", lambda value: counted(2 * value, calls)) for record in (waiting, known)]
    doubled = [Record(2, value) for value in made]
    assert calls == [14]
    assert [record.costly for record in doubled] == [14, 14]
    assert calls == [14, 7, 14]


def test_what_follows_waits_for_what_it_follows_from() -> None:
    calls: list[int] = []
    first = later(lambda: counted(7, calls))
    record = Record(1, after(first, lambda value: counted(2 * value, calls)))
    assert after(7, lambda value: 2 * value) == 14
    assert not calls
    assert record.costly == 14
    assert calls == [7, 14]


def test_a_copy_of_what_is_unread_waits_too() -> None:
    calls: list[int] = []
    record = Record(1, later(lambda: counted(7, calls)))
    copy = replace(record, cheap=2, **unread(record))
    assert not calls
    assert (copy.costly, record.costly) == (7, 7)
    assert calls == [7]
    assert unread(record) == {}


def test_a_copy_and_a_pickle_have_the_value() -> None:
    record = Record(1, later(lambda: 7))
    assert pickle.loads(pickle.dumps(record)) == Record(1, 7)  # noqa: S301
    assert replace(record, cheap=3) == Record(3, 7)
