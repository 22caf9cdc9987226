"""Units of every kind, and the way of their datagrams from a packetiser to a reassembler."""

from __future__ import annotations

import random
from collections.abc import Sequence

from channel.packetise import Packetiser, PacketiserConfig
from common.datagram import parse_datagram
from common.types import Datagram, EncodedUnit, UnitKind
from receiver.reassembly import Reassembler

FRAME_S = 1 / 30


def made_unit(
    kind: UnitKind,
    slot: int,
    size: int,
    key: bool = False,
    disposable: bool = False,
    protect: bool = False,
) -> EncodedUnit:
    """A unit whose bytes say what it is, so that no two are equal."""
    head = bytes([kind]) + slot.to_bytes(4, "big")
    data = (head + random.Random(slot * 4 + kind).randbytes(size))[:size]
    return EncodedUnit(kind, slot, data, key, disposable, protect)


def frame_unit(slot: int, size: int = 80, **fields: bool) -> EncodedUnit:
    return made_unit(UnitKind.FRAME, slot, size, **fields)


def anchor_unit(slot: int, size: int = 3000, protect: bool = True) -> EncodedUnit:
    return made_unit(UnitKind.ANCHOR, slot, size, protect=protect)


def new_packetiser(**settings: float) -> Packetiser:
    return Packetiser(PacketiserConfig.model_validate(settings))


def deliver(reassembler: Reassembler, datagrams: Sequence[bytes], now_s: float = 0.0) -> list[bytes]:
    return [unit.data for data in datagrams for unit in reassembler.push(Datagram(data, now_s))]


def drops_of(part: Packetiser | Reassembler) -> dict[str, int]:
    return dict(part.stats.drops)


def seqs_of(datagrams: Sequence[bytes]) -> list[int]:
    return [parse_datagram(data).seq for data in datagrams]


def run_out(packetiser: Packetiser, start_s: float = 0.0, seconds: float = 1.0) -> list[bytes]:
    steps = int(seconds * 30)
    return [data for step in range(steps) for data in packetiser.poll(start_s + step * FRAME_S)]
