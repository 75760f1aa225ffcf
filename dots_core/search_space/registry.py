"""Objects by name: what can be chosen of a kind, of ours and of packages beside this one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from typing import Generic, Protocol, TypeVar

from dots_core.errors import UsageError, nearest, quoted


class Named(Protocol):
    """Anything with a name that says what it is."""

    @property
    def name(self) -> str:
        """What it is called in configurations, and registered as."""

    @property
    def about(self) -> str:
        """What it is and where it comes from, in one line."""


Member = TypeVar("Member", bound=Named)


class Registry(Generic[Member]):
    """Objects of one kind, in the order in which they were registered; those of other packages by entry points' names.

    Parameters
    ----------
    kind : str
        What they are, for messages: ``"topology space"``.
    group : str
        Entry points of this group lead to more of them, from any installed package; they are loaded when
        first asked for.
    check : callable, optional
        Raises `UsageError` for an object that cannot be one of them.
    """

    def __init__(self, kind: str, group: str, check: Callable[[Member], None] | None = None) -> None:
        self.kind, self.group, self._check = kind, group, check
        self._members: dict[str, Member] = {}
        self._loaded = False

    def register(self, member: Member) -> Member:
        """Add an object.

        Raises
        ------
        UsageError
            If another one has its name, it says nothing of itself, or it cannot be one.
        """
        if not getattr(member, "about", ""):
            raise UsageError(f"the {self.kind} '{quoted(member.name)}' says nothing of itself; give it a line `about`")
        if self._check is not None:
            self._check(member)
        if self._members.setdefault(member.name, member) is not member:
            raise UsageError(f"there is a {self.kind} '{quoted(member.name)}' already; give yours another name")
        return member

    def __getitem__(self, name: str) -> Member:
        """Return the object of a name.

        Raises
        ------
        UsageError
            If there is none.
        """
        member = self._all().get(name)
        if member is None:
            hint = nearest(quoted(name), self.names)
            raise UsageError(f"unknown {self.kind} '{quoted(name)}'{hint}; known: {', '.join(self.names)}")
        return member

    def __iter__(self) -> Iterator[Member]:
        return iter(self._all().values())

    def __contains__(self, name: object) -> bool:
        """Whether there is one of a name; other packages are asked if there is none among ours."""
        return name in self._members or name in self._all()

    @property
    def names(self) -> tuple[str, ...]:
        """All names."""
        return tuple(self._all())

    def _all(self) -> dict[str, Member]:
        if not self._loaded:
            self._loaded = True  # a package that is being loaded may ask, too
            for point in sorted(entry_points(group=self.group), key=lambda point: point.name):
                try:
                    self.register(point.load())
                except Exception as error:
                    self._loaded = False
                    raise UsageError(
                        f"the {self.kind} '{quoted(point.name)}' of an installed package does not load: "
                        f"{type(error).__name__}: {quoted(str(error))}; mend or uninstall that package"
                    ) from error
        return self._members
