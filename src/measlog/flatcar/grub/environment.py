"""GRUB's variables (kern/env.c, normal/context.c): contexts, exports, hooks."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from measlog.errors import LimitExceededError

__all__ = ["Environment"]

Hook = Callable[[bytes], bytes]


class _Variable:
    __slots__ = ("exported", "hook", "value")

    def __init__(self, value: bytes) -> None:
        self.value = value
        self.exported = False
        self.hook: Hook | None = None


class Environment:
    """A stack of contexts; ``configfile`` and submenus open one that has the exported variables alone."""

    def __init__(self, *, variables: int, word: int) -> None:
        self._contexts: list[dict[bytes, _Variable]] = [{}]
        self._variables = variables
        self._word = word

    @property
    def _now(self) -> dict[bytes, _Variable]:
        return self._contexts[-1]

    @property
    def depth(self) -> int:
        """How many contexts are open."""
        return len(self._contexts)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._now)

    def get(self, name: bytes) -> bytes | None:
        """The value, or None where the variable is not set."""
        variable = self._now.get(name)
        return None if variable is None else variable.value

    def set(self, name: bytes, value: bytes) -> None:
        """Set a variable of the current context, through its hook where it has one. Raises LimitExceededError."""
        if len(value) > self._word or len(name) > self._word:
            raise LimitExceededError(f"a variable of more than {self._word} bytes")
        variable = self._now.get(name)
        if variable is None:
            if len(self._now) >= self._variables:
                raise LimitExceededError(f"more than {self._variables} variables")
            self._now[name] = _Variable(value)
        else:
            variable.value = variable.hook(value) if variable.hook else value

    def unset(self, name: bytes) -> None:
        """Remove a variable; one with a hook becomes empty instead."""
        variable = self._now.get(name)
        if variable is None:
            return
        if variable.hook:
            self.set(name, b"")
        else:
            del self._now[name]

    def export(self, name: bytes) -> None:
        """Let contexts opened from now on have the variable; it becomes empty where it is not set."""
        if name not in self._now:
            self.set(name, b"")
        self._now[name].exported = True

    def hook(self, name: bytes, hook: Hook) -> None:
        """Call ``hook`` when the variable is set; what it gives is the value."""
        if name not in self._now:
            self.set(name, b"")
        self._now[name].hook = hook

    def open(self) -> None:
        """Open a context with copies of the exported variables."""
        made: dict[bytes, _Variable] = {}
        for name, variable in self._now.items():
            if variable.exported:
                copy = made[name] = _Variable(variable.value)
                copy.exported = True
                copy.hook = variable.hook
        self._contexts.append(made)

    def close(self) -> None:
        """Drop the current context."""
        self._contexts.pop()
