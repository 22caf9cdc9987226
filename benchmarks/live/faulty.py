"""`semcast` with a fault built in, for what no network and no signal can do to a program from outside.

python -m benchmarks.live.faulty FAULT ARGUMENT...     the command line's arguments follow; SIGUSR1 begins and ends it

clock    its wall clock (not the monotonic one) is an hour ahead meanwhile
memory   its decoder's network finds no GPU memory meanwhile
corrupt  1 % of the datagrams that it packs hold a wrong byte under a right CRC meanwhile
version  it writes and reads the next version of the stream, from the beginning
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from threading import Event
from typing import Any

import numpy as np

JUMP_S = 3600.0
CORRUPTED = 0.01

Active = Callable[[], bool]


def clock(active: Active) -> None:
    """All that asks for the time of day is told another."""
    import aiortc.clock as rtc

    from common.clock import UnixClock

    now_s, current = UnixClock.now_s, rtc.current_datetime
    UnixClock.now_s = lambda self: now_s(self) + JUMP_S * active()  # type: ignore[method-assign]
    rtc.current_datetime = lambda: current() + timedelta(seconds=JUMP_S * active())


def memory(active: Active) -> None:
    """As PyTorch says it."""
    import torch

    from receiver.decoder.synth import BridgeSynthesizer

    render = BridgeSynthesizer.render

    def without_memory(self: Any, scene: Any, facts: Any, level: str, should_stop: Any) -> Any:
        if level.startswith("bridge") and active():
            raise torch.OutOfMemoryError("CUDA out of memory (simulated)")
        return render(self, scene, facts, level, should_stop)

    BridgeSynthesizer.render = without_memory  # type: ignore[assignment, method-assign]


def corrupt(active: Active) -> None:
    """Before the CRC is made."""
    from channel import packetise
    from common.datagram import Record, WholeUnit

    random, pack = np.random.default_rng(0), packetise.pack_datagram  # type: ignore[attr-defined]

    def damaged(record: Record) -> Record:
        if not isinstance(record, WholeUnit):
            return record
        data = bytearray(record.data)
        data[random.integers(len(data))] ^= int(random.integers(1, 256))
        return replace(record, data=bytes(data))

    def pack_damaged(seq: int, records: Sequence[Record], echo: int | None = None) -> bytes:
        wrong = active() and random.random() < CORRUPTED
        return pack(seq, [damaged(record) for record in records] if wrong else records, echo)

    packetise.pack_datagram = pack_damaged  # type: ignore[attr-defined]


def version(active: Active) -> None:
    """From the beginning."""
    import common.wire

    common.wire.BITSTREAM_VERSION += 1


FAULTS: Mapping[str, Callable[[Active], None]] = {
    "clock": clock, "memory": memory, "corrupt": corrupt, "version": version,
}  # fmt: skip


def main(arguments: Sequence[str]) -> None:
    """See the top of this file."""
    began = Event()
    signal.signal(signal.SIGUSR1, lambda *_: began.clear() if began.is_set() else began.set())
    FAULTS[arguments[0]](began.is_set)
    import cli

    sys.argv = ["semcast", *arguments[1:]]
    cli.main()


if __name__ == "__main__":
    main(sys.argv[1:])
