"""Objects by name: what can be chosen of a kind, of ours and of packages beside this one."""

from __future__ import annotations

import re
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

_NAME = re.compile(r"[a-z][a-z0-9_-]*")
_LONGEST = 60
"""Characters of a name; they stand in settings, file names and tables."""


class Registry(Generic[Member]):
    """Objects of one kind, in the order in which they were registered; those of other packages by entry points' names.

    Parameters
    ----------
    kind : str
        What they are, for messages: ``"topology space"``.
    group : str
        Entry points of this group lead to more of them, from any installed package; they are loaded when
        first asked for.
    extends : type
        The class of all of them.
    check : callable, optional
        Raises `UsageError` for an object that cannot be one of them.
    """

    def __init__(
        self, kind: str, group: str, extends: type = object, check: Callable[[Member], None] | None = None
    ) -> None:
        self.kind, self.group, self._extends, self._check = kind, group, extends, check
        self._members: dict[str, Member] = {}
        self._loaded = False

    def register(self, member: Member) -> Member:
        """Add an object.

        Raises
        ------
        UsageError
            If it is of another class, its name is no word or another's, it says nothing of itself, or it cannot be one.
        """
        self._check_form(member)
        if self._check is not None:
            self._check(member)
        if self._members.setdefault(member.name, member) is not member:
            raise UsageError(f"the {self.kind} '{member.name}' is there already; give yours another name")
        return member

    def _check_form(self, member: object) -> None:
        if isinstance(member, type) or not isinstance(member, self._extends):
            wanted = (
                "" if self._extends is object else f" that extends {self._extends.__module__}.{self._extends.__name__}"
            )
            raise UsageError(f"{quoted(repr(member))} is no {self.kind}; register an object of a class{wanted}")
        name, about = getattr(member, "name", None), getattr(member, "about", None)
        if not isinstance(name, str) or len(name) > _LONGEST or not _NAME.fullmatch(name):
            raise UsageError(
                f"the {self.kind} {quoted(repr(name))} needs another name: up to {_LONGEST} lower case letters, "
                "digits, hyphens and underscores, a letter first"
            )
        if not isinstance(about, str) or not about.strip() or not about.isprintable():
            raise UsageError(
                f"the {self.kind} '{name}' does not say in one line what it is; write it into its attribute `about`"
            )

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
                except (Exception, SystemExit) as error:
                    self._loaded = False
                    raise UsageError(
                        f"the {self.kind} '{quoted(point.name)}' of an installed package does not load: "
                        f"{type(error).__name__}: {quoted(str(error))}; mend or uninstall that package"
                    ) from error
        return self._members
