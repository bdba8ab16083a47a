"""Frozen values that are quick to define: a dataclass in all but how its methods come about.

``@dataclass(frozen=True, slots=True)`` compiles half a dozen functions for every class, which takes as long as
importing a small module. The values of this package share theirs. :func:`dataclasses.fields` and
:func:`dataclasses.replace` work as ever, and so does :func:`dataclasses.field`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, Field, FrozenInstanceError, dataclass, field
from typing import Any, ClassVar, TypeVar, dataclass_transform

__all__ = ["Value", "frozen"]

T = TypeVar("T")


class Value:
    """The methods that all values share."""

    __slots__ = ()
    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    def __init__(self, *values: object, **named: object) -> None:
        """Take the fields in their order, or by name.

        Raises:
            TypeError: a field is missing or given twice, or there is none of that name.

        """
        fields = self.__dataclass_fields__
        kind = type(self).__name__
        if values:
            positional = self.__match_args__  # type: ignore[attr-defined]  # dataclass sets it on every subclass
            if len(values) > len(positional):
                raise TypeError(f"{kind}() takes {len(positional)} positional arguments, and {len(values)} were given")
            for name, given in zip(positional, values, strict=False):
                if name in named:
                    raise TypeError(f"{kind}() got multiple values for argument {name!r}")
                named[name] = given
        for name, each in fields.items():
            if name in named:
                given = named.pop(name)
            elif each.default is not MISSING:
                given = each.default
            elif each.default_factory is not MISSING:
                given = each.default_factory()
            else:
                raise TypeError(f"{kind}() missing required argument: {name!r}")
            object.__setattr__(self, name, given)
        if named:
            raise TypeError(f"{kind}() got an unexpected keyword argument {next(iter(named))!r}")
        self.__post_init__()

    def __post_init__(self) -> None:
        """Check the fields, where a value has something to check."""

    def __repr__(self) -> str:
        """Show the fields that may be seen."""
        shown = (f"{name}={getattr(self, name)!r}" for name, each in self.__dataclass_fields__.items() if each.repr)
        return f"{type(self).__qualname__}({', '.join(shown)})"

    def __eq__(self, other: object) -> bool:
        """Compare the fields, with a value of the same type only."""
        if type(other) is not type(self):
            return NotImplemented
        fields = self.__dataclass_fields__.items()
        return all(getattr(self, name) == getattr(other, name) for name, each in fields if each.compare)

    def __hash__(self) -> int:
        """Hash the fields that are compared, but for those that are left out on purpose."""
        fields = self.__dataclass_fields__.items()
        hashed = (name for name, each in fields if (each.compare if each.hash is None else each.hash))
        return hash(tuple(getattr(self, name) for name in hashed))

    def __setattr__(self, name: str, given: object) -> None:
        """Refuse: a value never changes."""
        raise FrozenInstanceError(f"cannot assign to field {name!r}")

    def __delattr__(self, name: str) -> None:
        """Refuse: a value never changes."""
        raise FrozenInstanceError(f"cannot delete field {name!r}")

    def __getstate__(self) -> tuple[object, ...]:
        """Return the fields, for copies and pickles."""
        return tuple(getattr(self, name) for name in self.__dataclass_fields__)

    def __setstate__(self, state: tuple[object, ...]) -> None:
        """Set the fields of a copy."""
        for name, given in zip(self.__dataclass_fields__, state, strict=True):
            object.__setattr__(self, name, given)


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def frozen(*, kw_only: bool = False) -> Callable[[type[T]], type[T]]:
    """Return the decorator that makes a value of a subclass of :class:`Value`."""
    return dataclass(init=False, repr=False, eq=False, slots=True, kw_only=kw_only)
