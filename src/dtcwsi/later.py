"""Fields of records that are worked out when they are first read: who wants logits alone does not pay for the rest."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, cast

__all__ = ["WhenRead", "after", "later", "then", "unread", "worked_out_when_read"]

T = TypeVar("T")
Record = TypeVar("Record")


def later(work: Callable[[], T]) -> T:
    """Stand for what ``work`` will give, in a field of a record by `worked_out_when_read`.

    All records that were given the same one share the result; what ``work`` holds on to is released with it.
    """
    return cast(T, _Later(work))


def then(record: object, name: str, change: Callable[[Any], T]) -> T:
    """Give what ``change`` makes of a record's field: `later`, if that is not worked out yet."""
    return after(vars(record)[name], change)


def unread(record: object) -> dict[str, Any]:
    """Give those fields of a record that are not worked out yet, as `later`."""
    return {name: held for name, held in vars(record).items() if isinstance(held, _Later)}


def after(given: object, change: Callable[[Any], T]) -> T:
    """Give what ``change`` makes of something: `later`, if that is."""
    return later(lambda: change(given.value)) if isinstance(given, _Later) else change(given)


def worked_out_when_read(*names: str) -> Callable[[type[Record]], type[Record]]:
    """Let fields of a dataclass, `WhenRead` of a type, be given as `later`; who reads or pickles them gets values."""

    def prepared(kind: type[Record]) -> type[Record]:
        for name in names:
            setattr(kind, name, _Field(name))
        kind.__getstate__ = _state_of  # type: ignore[assignment]
        return kind

    return prepared


class _Later:
    def __init__(self, work: Callable[[], Any]) -> None:
        self._work: Callable[[], Any] | None = work
        self._value: Any = None

    @property
    def value(self) -> Any:
        work = self._work
        if work is not None:
            self._value = work()  # in two threads perhaps twice, and the same
            self._work = None
        return self._value


class _Field:
    """A field whose value stands in the record's dictionary, as others' do, once it is worked out."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, record: object, kind: type | None = None) -> Any:
        if record is None:
            return self
        held = vars(record)[self._name]
        if isinstance(held, _Later):
            vars(record)[self._name] = held = held.value
        return held

    def __set__(self, record: object, value: object) -> None:
        vars(record)[self._name] = value


def _state_of(record: object) -> dict[str, Any]:
    return {name: getattr(record, name) for name in vars(record)}


if TYPE_CHECKING:
    WhenRead = Annotated[T, "given now or later"]  # who reads it has a T
else:

    class WhenRead:
        """The type that such a field is given in."""

        def __class_getitem__(cls, kind: Any) -> Any:
            return kind | _Later
