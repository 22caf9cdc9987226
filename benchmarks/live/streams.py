"""A stream that arrives at a live receiver, and the painter that waits for one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from benchmarks.live.tally import Tally
from benchmarks.udp_ends import LIKELY_SIZE
from common.clock import Clock
from common.config import Config, ReceiverSettings
from common.deadline import CostModel
from common.errors import SinkError, WeightsError
from common.units import ConfigUnit, StreamConfig
from receiver.budget import Way
from receiver.jitter import Playout
from receiver.out_of_memory import FrugalPainter
from receiver.outputs import OutputSink
from receiver.painter import Painter, open_painter
from receiver.pipeline import ReceiverSession, prime
from receiver.recording import Recorder
from receiver.web.meter import Meter

FORGETTING = 1e-3
"""See `Playout`: follows clocks that drift, and after a change of route the pictures are smooth again within minutes."""


class Studio:
    """A painter that can be ready before there is a stream, and what its levels cost on this machine.

    warn : told where it has to paint less than was asked for
    """

    def __init__(self, config: Config, clock: Clock, warn: Callable[[str], None]) -> None:
        self._config, self._clock, self._warn = config, clock, warn
        self._size: tuple[int, int] | None = None
        self._painter: Painter
        self._costs: CostModel[Way]

    def prepare(self, size: tuple[int, int] = LIKELY_SIZE) -> None:
        """Get ready for coded pictures of `size` (height, width). Raises WeightsError where weights are missing, or there
        is no memory for them."""
        if size != self._size:
            try:
                painter = open_painter(self._config, 0, size)
            except torch.OutOfMemoryError as error:
                raise WeightsError(
                    f"{self._config.receiver.device} has no memory for the decoder: choose --device cpu or --steps 0"
                ) from error
            self._painter, self._costs = FrugalPainter(painter, self._clock, self._warn), CostModel()
            prime(self._costs, self._painter, self._clock, size)
            self._size = size

    def session(self, stream: StreamConfig, settings: ReceiverSettings) -> ReceiverSession:
        """For another stream. settings : as changed on the page"""
        self.prepare((stream.coded_height, stream.coded_width))
        self._painter.reset(stream.seed)
        return ReceiverSession(settings, self._painter, self._clock, costs=self._costs)


@dataclass(slots=True)
class Stream:
    """One stream that arrives: packets to pictures. Opened by its first configuration."""

    config: StreamConfig
    session: ReceiverSession
    meter: Meter = field(default_factory=Meter)
    tally: Tally = field(default_factory=Tally)
    recorder: Recorder | None = None
    output: OutputSink | None = None

    @classmethod
    def open(cls, unit: ConfigUnit, session: ReceiverSession) -> Stream:
        """Begin with the configuration that has come."""
        # Who joins late starts with the frame that follows, not with the stream's first.
        delay_s = session.settings.live_playout_delay_ms / 1e3
        session.playout = Playout(delay_s, next_slot=unit.slot, forgetting=FORGETTING)
        return cls(unit.config, session)

    @property
    def frame_s(self) -> float:
        return float(1 / self.config.frame_rate)

    def end(self, warn: Callable[[str], None]) -> None:
        """What was being recorded is completed."""
        recorder, self.recorder = self.recorder, None
        try:
            if recorder is not None:
                recorder.close()
        except SinkError as error:
            warn(str(error))
        if self.output is not None:
            self.output.close()
        self.session.aside.shutdown(wait=False)
