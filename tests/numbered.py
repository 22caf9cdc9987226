"""Numbered messages through a channel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from common.types import Datagram

if TYPE_CHECKING:
    from channel.radio.link import RadioChannel
    from channel.simulated import SimulatedChannel

LATER_S = 100.0
"""When everything has arrived."""


def message_of(number: int, size: int = 60) -> bytes:
    return number.to_bytes(2, "big") + bytes(np.random.default_rng(number).bytes(size - 2))


def number_of(datagram: Datagram) -> int:
    return int.from_bytes(datagram.data[:2], "big")


def assert_polls_change_nothing(
    quiet: SimulatedChannel | RadioChannel,
    busy: SimulatedChannel | RadioChannel,
    times: Sequence[float],
    polls: Sequence[float],
) -> None:
    """Two channels that are equal are given the same; one of them is asked in between what has arrived."""
    got: list[Datagram] = []
    for moment, is_poll in sorted([(t, False) for t in times] + [(t, True) for t in polls]):
        if is_poll:
            got += busy.receive(moment)
        else:
            number = times.index(moment)
            quiet.send(message_of(number), moment)
            busy.send(message_of(number), moment)
    got += busy.receive(LATER_S)
    assert got == quiet.receive(LATER_S)
    assert busy.stats == quiet.stats
