"""What types that carry proof have in common."""

from __future__ import annotations

from typing import NoReturn

__all__ = ["Proven"]


class Proven:
    """What cannot be built by hand, subclassed or pickled."""

    __slots__ = ()

    def __init_subclass__(cls) -> None:
        if cls.__mro__[1] is not Proven:
            raise TypeError(f"{cls.__mro__[1].__name__} has no subclasses: they would be proofs of nothing")

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"{type(self).__name__} is not pickled: send what it was made from, and verify again")
