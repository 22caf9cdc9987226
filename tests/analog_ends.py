"""Both ends of an analog link on small pictures, with nothing but noise between."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest

pytest.importorskip("sionna.phy", reason="needs the extra `radio`: pip install 'semcast[radio]'")

from channel.analog import awgn
from common.config import Config, load_config
from common.container import RecordJoiner
from common.types import Frame
from receiver.analog import AnalogDecoder
from sender.analog import AirBudget, AnalogSender, Transmission
from tests.small_stream import STREAM, frame

SIDE = 64
SMALL = replace(STREAM, width=SIDE, height=SIDE)
USES_PER_BYTE = 4
FIRST_CUT = 80


def frames(slots: Sequence[int], side: int = SIDE) -> list[Frame]:
    """Of the built-in clip, numbered from 0."""
    shots = [frame(slot, side) for slot in slots]
    return [Frame(shot.picture, n, shot.time_base, n, shot.colour) for n, shot in enumerate(shots)]


def config(*overrides: str) -> Config:
    return load_config(
        None, ["receiver.steps=0", "receiver.budget_ms=none", "anchor.enabled=false", *overrides]
    )


@dataclass
class Ends:
    """Sender and decoder with nothing but noise between: records arrive, or a test says otherwise."""

    sender: AnalogSender
    decoder: AnalogDecoder
    joiner: RecordJoiner
    snr_db: float

    def send(self, source: Sequence[Frame], lost: Sequence[int] = ()) -> list[Transmission]:
        """All groups; `lost` tells the ones whose records are."""
        sent = [self.sender.step(shot)[0] for shot in source] + [self.sender.flush()]
        groups = [transmission for transmission in sent if transmission is not None]
        for number, group in enumerate(groups):
            if group.symbols is None:
                continue
            heard = awgn(group.symbols, self.snr_db, np.random.default_rng(number))
            self.decoder.hear(heard.symbols, heard.noise)
            for record in group.records:
                unit = self.joiner.push(None if number in lost else record)
                if unit is not None:
                    self.decoder.push(unit, group.slot / 25)
        return groups


def ends(snr_db: float = 10.0, uses_per_s: float = 20_000, share: float = 0.3, *overrides: str) -> Ends:
    budget = AirBudget(uses_per_s, share, lambda size: USES_PER_BYTE * size)
    stream = SMALL
    return Ends(AnalogSender(stream, config(*overrides), budget), AnalogDecoder(), RecordJoiner(), snr_db)


def held(decoder: AnalogDecoder) -> list[int]:
    return [slot for slot in range(200) if decoder.scene_at(slot) is not None]
