"""Growing: a number that is known only as a function of a length, for plans that hold for many.

Whoever plans computes with it as with an int: sums, products and quotients stay functions of the
length, and a comparison is answered for the length at hand and noted, as a bound of the lengths for
which it is answered alike. Whatever needs the plain number (`int`, an index, a string, NumPy) pins
the length, and what was planned then holds for no other: nothing can be taken over by mistake.

    growth = Growth(5, 64)              # planned for 5, at most 64
    keys = growth.length + 1
    keys > 1, -(-keys // 4)             # True, and 2 for now
    growth.table(indices).at(9)         # the numbers for another length, or None where it must not
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any, Final, TypeAlias, cast

_LEAST: Final = 128  # rows that there is room for at least

SPARE: Final = 8  # rows of a shelf that a plan for `room` does not need

Terms: TypeAlias = tuple[tuple[int, int], ...]  # (atom, factor), by atom; no factor is 0


class Growing:
    """`constant` and a multiple of each atom of its growth; `value` for the length at hand.

    Atom 0 is the length. To type checkers it passes for an int (`Growth.length`).
    """

    __slots__ = ("constant", "growth", "terms", "value")

    def __init__(self, growth: Growth, terms: Terms, constant: int, value: int) -> None:
        self.growth = growth
        self.terms = terms
        self.constant = constant
        self.value = value

    # -- arithmetic ------------------------------------------------------------

    def __add__(self, other: Any) -> Any:
        if isinstance(other, Growing):
            found = dict(self.terms)
            for atom, factor in other.terms:
                found[atom] = found.get(atom, 0) + factor
            constant, value = self.constant + other.constant, self.value + other.value
            return self.growth.of(found, constant, value)
        number = _number(other)
        if number is None:
            return NotImplemented
        return Growing(self.growth, self.terms, self.constant + number, self.value + number)

    def __mul__(self, other: Any) -> Any:
        if isinstance(other, Growing):
            return self.growth.atom("*", self, other)
        number = _number(other)
        if number is None:
            return NotImplemented
        found = {atom: factor * number for atom, factor in self.terms}
        return self.growth.of(found, self.constant * number, self.value * number)

    __radd__, __rmul__ = __add__, __mul__

    def __neg__(self) -> Any:
        return self * -1

    def __pos__(self) -> Any:
        return self

    def __abs__(self) -> Any:
        return self if self >= 0 else -self

    def __sub__(self, other: Any) -> Any:
        negative = -other if isinstance(other, Growing) else _number(other)
        if negative is None:
            return NotImplemented
        return self + (negative if isinstance(other, Growing) else -negative)

    def __rsub__(self, other: Any) -> Any:
        return -self + other

    def __floordiv__(self, other: Any) -> Any:
        if isinstance(other, Growing):
            times = _times(self, other)
            return self.growth.atom("//", self, other) if times is None else times
        number = _number(other)
        if number is None:
            return NotImplemented
        if number < 0:
            return -self // -number
        if number == 0:
            raise ZeroDivisionError("division of what grows by 0")
        # What divides evenly comes out of the quotient.
        even = {atom: factor // number for atom, factor in self.terms if factor % number == 0}
        rest = {atom: factor for atom, factor in self.terms if factor % number}
        whole, left = divmod(self.constant, number)
        if not rest:
            return self.growth.of(even, whole, self.value // number)
        inside = sum(factor * self.growth.values[atom] for atom, factor in rest.items()) + left
        part = Growing(self.growth, tuple(sorted(rest.items())), left, inside)
        out = sum(factor * self.growth.values[atom] for atom, factor in even.items()) + whole
        return self.growth.of(even, whole, out) + self.growth.atom("//", part, number)

    def __rfloordiv__(self, other: Any) -> Any:
        number = _number(other)
        return NotImplemented if number is None else self.growth.atom("//", number, self)

    def __mod__(self, other: Any) -> Any:
        return self - (self // other) * other

    def __rmod__(self, other: Any) -> Any:
        return other - (other // self) * self

    # -- what decides ------------------------------------------------------------

    def __ge__(self, other: Any) -> bool:
        return self.growth.positive(self - other + 1)

    def __gt__(self, other: Any) -> bool:
        return self.growth.positive(self - other)

    def __le__(self, other: Any) -> bool:
        return not self.growth.positive(self - other)

    def __lt__(self, other: Any) -> bool:
        return not self.growth.positive(self - other + 1)

    def __hash__(self) -> int:
        # Equal functions are equal numbers. Others count as different in a dict, which is never
        # wrong of two that differ for some length.
        return hash((self.terms, self.constant))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Growing) and _number(other) is None:
            return False
        rest = self - other
        if not isinstance(rest, Growing):
            return bool(rest == 0)
        return rest.growth.zero(rest)

    def __bool__(self) -> bool:
        return self != 0

    # -- what pins ------------------------------------------------------------

    def __index__(self) -> int:
        return self.growth.taken(self)

    __int__ = __trunc__ = __index__

    def __float__(self) -> float:
        self.growth.pin("a number was taken as a float")
        return float(self.value)

    def __round__(self, digits: int = 0) -> int:
        return self.growth.taken(self)

    def __truediv__(self, other: Any) -> Any:
        return self.growth.taken(self) / other

    def __rtruediv__(self, other: Any) -> Any:
        return other / self.growth.taken(self)

    def __repr__(self) -> str:
        return str(self.growth.taken(self))


def _number(value: Any) -> int | None:
    """An integer of Python's or NumPy's; None for anything else."""
    if isinstance(value, int):
        return value
    return int(value) if isinstance(value, Integral) else None


def _times(a: Growing, b: Growing) -> int | None:
    """How many times b is a, if that is the same for every length."""
    if len(a.terms) != len(b.terms) or b.value == 0:
        return None
    times, rest = divmod(a.terms[0][1], b.terms[0][1])
    scaled = tuple((atom, factor * times) for atom, factor in b.terms)
    same = rest == 0 and scaled == a.terms and b.constant * times == a.constant
    return times if same and b != 0 else None


@dataclass(frozen=True, slots=True)
class Table:
    """Numbers as functions of a length, computed together."""

    growth: Growth
    forms: tuple[tuple[Terms, int], ...]

    def at(self, length: int) -> list[int] | None:
        """The numbers for this length; None where it does not hold."""
        atoms = self.growth.atoms_at(length)
        if atoms is None:
            return None
        found = []
        for terms, constant in self.forms:
            for atom, factor in terms:
                constant += factor * atoms[atom]
            found.append(constant)
        return found


class Growth:
    """One length, what was computed from it, and for which lengths all of that holds."""

    def __init__(self, length: int, most: int) -> None:
        """`length` is the one at hand; nothing holds for one above `most`."""
        self.low, self.high = 0, most
        self.values = [length]  # of the atoms
        self.pinned = ""  # why it holds for this length only
        self._bounds = [(0, most)]
        self._atoms: list[tuple[str, Any, Any]] = [("", 0, 0)]
        self._known: dict[Any, Any] = {}
        self._checks: list[tuple[Terms, int]] = []  # each is at least 0
        self._forms: dict[tuple[Terms, int], int] = {}
        self._marked: list[Growing] | None = None
        self._mark = 0

    @property
    def length(self) -> int:
        """The length itself, to compute with."""
        return cast("int", Growing(self, ((0, 1),), 0, self.values[0]))

    def of(self, terms: dict[int, int], constant: int, value: int) -> Any:
        """A number of these terms; a plain one when there are none left."""
        kept = tuple(sorted((atom, factor) for atom, factor in terms.items() if factor))
        return Growing(self, kept, constant, value) if kept else constant

    def atom(self, op: str, a: Any, b: Any) -> Any:
        """a · b or a // b as a term of its own."""
        if op == "//" and isinstance(b, Growing) and not b > 0:
            self.pin("a division by what is not positive")
            return at_hand(a) // b.value
        key = (op, _form(a), _form(b))
        found = self._known.get(key)
        if found is None:
            ends = [self._ends(a), self._ends(b)]
            pairs = [(x, y) for x in ends[0] for y in ends[1]]
            if op == "*":
                reached = [x * y for x, y in pairs]
            else:
                reached = [x // max(y, 1) for x, y in pairs]
            value = at_hand(a) * at_hand(b) if op == "*" else at_hand(a) // at_hand(b)
            self._atoms.append((op, a, b))
            self.values.append(value)
            self._bounds.append((min(reached), max(reached)))
            terms = ((len(self.values) - 1, 1),)
            found = self._known[key] = Growing(self, terms, 0, value)
        return found

    # -- decisions ------------------------------------------------------------

    def positive(self, number: Any) -> bool:
        """Whether it is above 0, from now on for every length."""
        if not isinstance(number, Growing):
            return bool(number > 0)
        low, high = self._ends(number)
        if low > 0 or high <= 0:
            return low > 0
        if number.value > 0:
            self._require(number - 1)
            return True
        self._require(-number)
        return False

    def zero(self, number: Growing) -> bool:
        """Whether it is 0, from now on for every length."""
        low, high = self._ends(number)
        if low > 0 or high < 0:
            return False
        if number.value == 0:
            self.pin("two numbers that happen to be equal")
            return True
        self._require(number - 1 if number.value > 0 else -number - 1)
        return False

    def _require(self, number: Any) -> None:
        """It is at least 0 for every length."""
        if len(number.terms) > 1 or number.terms[0][0]:
            self._checks.append((number.terms, number.constant))
            return
        factor = number.terms[0][1]
        if factor > 0:
            self.low = max(self.low, -(number.constant // factor))
        else:
            self.high = min(self.high, number.constant // -factor)
        self._bounds[0] = (self.low, self.high)

    def _ends(self, number: Any) -> tuple[int, int]:
        """The least and the most that it can be; or beyond."""
        if not isinstance(number, Growing):
            return number, number
        low = high = number.constant
        for atom, factor in number.terms:
            ends = [factor * end for end in self._bounds[atom]]
            low, high = low + min(ends), high + max(ends)
        return low, high

    def most(self, number: Any) -> int:
        """What it is at most, for every length."""
        return self._ends(number)[1]

    # -- plain numbers ------------------------------------------------------------

    def pin(self, why: str) -> None:
        """From now on it holds for this length only."""
        self.pinned = self.pinned or why
        self.low = self.high = self.values[0]

    def taken(self, number: Growing) -> int:
        """The plain number, which pins the length unless it is being marked."""
        if self._marked is None:
            self.pin("a number was taken as it is")
            return number.value
        self._marked.append(number)
        return self._mark if self._mark >= 0 else number.value

    def packed(self, pack: Any) -> tuple[bytes, list[tuple[int, Growing]]]:
        """What `pack()` gives for this length, and which of its words are which numbers.

        Words are where the bytes differ when all numbers are others.
        """
        found: list[bytes] = []
        marked: list[Growing] = []
        try:
            for self._mark in (0, 256, -1):  # 256 does not fit a byte
                self._marked = marked = []
                found.append(pack())
        finally:
            self._marked = None
        words = [memoryview(one + bytes(-len(one) % 4)).cast("I") for one in found[:2]]
        places = [place for place, (a, b) in enumerate(zip(*words, strict=True)) if a != b]
        assert len(places) == len(marked)  # each number is one word
        return found[2], [(4 * place, one) for place, one in zip(places, marked, strict=True)]

    # -- other lengths ------------------------------------------------------------

    def index(self, number: Any) -> int:
        """The number's place in `table`, which is the same for equal ones."""
        return self._forms.setdefault(_form(number), len(self._forms))

    def table(self) -> Table:
        """All numbers that have an index."""
        return Table(self, tuple(self._forms))

    def atoms_at(self, length: int) -> list[int] | None:
        """The atoms for another length; None where it does not hold."""
        if not self.low <= length <= self.high:
            return None
        atoms = [length]
        for op, a, b in self._atoms[1:]:
            x, y = at(a, atoms), at(b, atoms)
            if op == "//" and y <= 0:
                return None  # which a check says, of atoms that there are not without it
            atoms.append(x * y if op == "*" else x // y)
        for terms, constant in self._checks:
            if constant + sum(factor * atoms[atom] for atom, factor in terms) < 0:
                return None
        return atoms


def _form(number: Any) -> tuple[Terms, int]:
    return (number.terms, number.constant) if isinstance(number, Growing) else ((), int(number))


def at(number: Any, atoms: Sequence[int]) -> int:
    """The number for the atoms of a length (`Growth.atoms_at`)."""
    if not isinstance(number, Growing):
        return cast("int", number)
    return number.constant + sum(factor * atoms[atom] for atom, factor in number.terms)


def most(number: int) -> int:
    """The number, or what a growing one is at most: for what only has to be enough."""
    return number.growth.most(number) if isinstance(number, Growing) else number


def at_hand(number: Any) -> Any:
    """The number as it is now: for what is written anew when it changes."""
    return number.value if isinstance(number, Growing) else number


def room(length: int) -> int:
    """The most that is planned for with this length: the next power of two above it, so that even
    long generations meet few plans; what is made for it takes up to twice as much as it needs."""
    return max(_LEAST, 1 << length.bit_length())


def shelf_rows(length: int) -> int:
    """Rows of memory for a cache of this length: that so many never fill it, nor come a row close,
    is then no question that a plan has to ask. And heads do not lie a power of two apart."""
    return room(length) + SPARE


def grows(*values: Any) -> bool:
    """Whether any of them is growing, or a tuple in which any is."""
    for value in values:
        if isinstance(value, Growing) or (isinstance(value, tuple) and value and grows(*value)):
            return True
    return False
