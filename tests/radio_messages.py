"""Numbered messages for radio links."""

from __future__ import annotations

import numpy as np

from common.types import Datagram


def message_of(number: int, size: int = 60) -> bytes:
    return number.to_bytes(2, "big") + bytes(np.random.default_rng(number).bytes(size - 2))


def number_of(datagram: Datagram) -> int:
    return int.from_bytes(datagram.data[:2], "big")
