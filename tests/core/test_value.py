"""Values behave as frozen dataclasses do."""

import copy
import dataclasses
import pickle
from collections.abc import Callable

import pytest

from accredit.core.value import Value, frozen


@frozen()
class Ours(Value):
    name: str
    hidden: str = dataclasses.field(default="h", repr=False)
    uncompared: int = dataclasses.field(default=0, compare=False)
    unhashed: list[int] = dataclasses.field(default_factory=list, hash=False)


@dataclasses.dataclass(frozen=True, slots=True)
class Theirs:
    name: str
    hidden: str = dataclasses.field(default="h", repr=False)
    uncompared: int = dataclasses.field(default=0, compare=False)
    unhashed: list[int] = dataclasses.field(default_factory=list, hash=False)


@frozen(kw_only=True)
class Named(Value):
    number: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "number", abs(self.number))


KINDS: tuple[Callable[..., Ours] | Callable[..., Theirs], ...] = (Ours, Theirs)


@pytest.mark.parametrize("make", KINDS)
def test_fields_come_in_their_order_or_by_name(make: Callable[..., Ours]) -> None:
    made = make("a", uncompared=3)
    assert (made.name, made.hidden, made.uncompared, made.unhashed) == ("a", "h", 3, [])
    assert make("a").unhashed is not made.unhashed


@pytest.mark.parametrize("make", KINDS)
@pytest.mark.parametrize(
    ("values", "named", "message"),
    [
        ((), {}, "missing .*'name'"),
        (("a",), {"name": "b"}, "multiple values for argument 'name'"),
        (("a",), {"other": 1}, "unexpected keyword argument 'other'"),
        (("a", "b", 1, [], 2), {}, "positional arguments"),
    ],
)
def test_wrong_arguments(
    make: Callable[..., Ours], values: tuple[object, ...], named: dict[str, object], message: str
) -> None:
    with pytest.raises(TypeError, match=message):
        make(*values, **named)


@pytest.mark.parametrize("make", KINDS)
def test_equality_and_hash(make: Callable[..., Ours]) -> None:
    made = make("a")
    assert made == make("a", uncompared=5)
    assert made != make("b")
    assert made != make("a", unhashed=[1])
    assert hash(made) == hash(make("a", unhashed=[1], uncompared=5))
    assert hash(made) != hash(make("a", "other"))
    assert made != ("a", "h", [])


def test_another_type_is_never_equal() -> None:
    assert Ours("a") != Theirs("a")


@pytest.mark.parametrize("make", KINDS)
def test_nothing_can_be_changed(make: Callable[..., Ours]) -> None:
    made = make("a")
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot assign to field 'name'"):
        made.name = "b"  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot delete field 'name'"):
        del made.name
    assert made.name == "a"
    assert not hasattr(made, "__dict__")


def test_the_repr_is_that_of_a_dataclass() -> None:
    assert repr(Ours("a")) == repr(Theirs("a")).replace("Theirs", "Ours") == "Ours(name='a', uncompared=0, unhashed=[])"


@pytest.mark.parametrize("make", KINDS)
def test_copies_and_pickles(make: Callable[..., Ours]) -> None:
    made = make("a", unhashed=[1])
    for other in (copy.copy(made), copy.deepcopy(made), pickle.loads(pickle.dumps(made)), dataclasses.replace(made)):
        assert other == made
        assert other is not made
    assert dataclasses.replace(made, name="b") == make("b", unhashed=[1])
    assert [field.name for field in dataclasses.fields(made)] == ["name", "hidden", "uncompared", "unhashed"]


@pytest.mark.parametrize("make", KINDS)
def test_patterns_match_by_position(make: Callable[..., object]) -> None:
    match make("a", "b"):
        case Ours(name, hidden) | Theirs(name, hidden):
            assert (name, hidden) == ("a", "b")
        case other:
            pytest.fail(f"{other!r} matched nothing")


def test_keyword_only_and_a_look_at_the_fields_when_all_are_set() -> None:
    assert Named(number=-3).number == 3
    with pytest.raises(TypeError, match="takes 0 positional arguments"):
        Named(3)  # type: ignore[call-arg]
