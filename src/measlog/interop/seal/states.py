"""Register states to seal to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from attrs import field, frozen

from measlog.errors import PolicyError
from measlog.flatcar.boot import PredictedBoot
from measlog.reference.fields import FrozenMapping
from measlog.registry import ALGORITHMS_BY_NAME

__all__ = ["State", "states_of"]


def _names(value: Iterable[str]) -> tuple[str, ...]:
    return tuple(value)


def _values(value: Mapping[int, bytes]) -> Mapping[int, bytes]:
    return FrozenMapping(dict(sorted(value.items())))


@frozen(kw_only=True)
class State:
    """Registers of one bank: ``values`` in ascending order of their index; ``names`` of the boots that leave them."""

    bank: str = field()
    names: tuple[str, ...] = field(converter=_names)
    values: Mapping[int, bytes] = field(converter=_values)

    @bank.validator
    def _known_bank(self, _attribute: object, bank: str) -> None:
        if bank not in ALGORITHMS_BY_NAME:
            raise PolicyError(f"bank {bank!r} is not known")

    @values.validator
    def _fitting(self, _attribute: object, values: Mapping[int, bytes]) -> None:
        if not values:
            raise PolicyError("no register to seal to")
        for pcr, value in values.items():
            if not 0 <= pcr <= 23:
                raise PolicyError(f"register {pcr}: a TPM has 0 to 23")
            if len(value) != ALGORITHMS_BY_NAME[self.bank].size:
                raise PolicyError(f"register {pcr}: {len(value)} bytes are no {self.bank} value")

    @property
    def concatenated(self) -> bytes:
        """The values one after the other, in ascending order: what ``tpm2_pcrread -o`` writes for this selection."""
        return b"".join(self.values.values())


def states_of(boots: Iterable[PredictedBoot], pcrs: Sequence[int], bank: str = "sha256") -> tuple[State, ...]:
    """The states that the boots leave in the registers ``pcrs``, each once, in the order of the boots.

    Raises PolicyError where there is nothing to seal to, where a boot ends without a kernel, or where a register of
    a boot is not known: sealing to less than was asked for is never done silently.
    """
    if not pcrs:
        raise PolicyError("no register to seal to")
    if len(set(pcrs)) != len(pcrs):
        raise PolicyError("a register is named twice")
    found: dict[tuple[bytes, ...], tuple[dict[int, bytes], list[str]]] = {}
    for boot in boots:
        if boot.outcome != "kernel":
            raise PolicyError(f"{boot.name}: no kernel starts ({boot.outcome})")
        known = boot.pcrs.get(bank)
        if known is None:
            raise PolicyError(f"{boot.name}: nothing is known of the bank {bank!r}")
        for pcr in pcrs:
            if pcr not in known:
                raise PolicyError(f"{boot.name}: register {pcr} is not known: {boot.unknown.get(pcr, 'no events')}")
        values = {pcr: known[pcr] for pcr in sorted(pcrs)}
        found.setdefault(tuple(values.values()), (values, []))[1].append(boot.name)
    if not found:
        raise PolicyError("no boot to seal to")
    return tuple(State(bank=bank, names=names, values=values) for values, names in found.values())
