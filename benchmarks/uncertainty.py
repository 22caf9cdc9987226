"""`semcast bench uncertainty`: whether the receiver says where and how far its pictures are wrong.

    clips x conditions -> link on virtual time -> each picture beside its source -> Tally -> coverage, AUSE
                                                                                 -> Moments: expected and made error

Conditions: a link without loss, the same without a network, losses in bursts, and an outage, whose pictures are
compared with the same frames of the first. Clips that are over before the outage is, and settled, have none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import Progress

from benchmarks.files import open_input
from benchmarks.honesty import Tally, cell_error
from benchmarks.link import Clip
from benchmarks.plans import Clip as NamedClip
from benchmarks.recovery import over_channel, over_link
from benchmarks.report import versions
from benchmarks.uncertainty_report import (
    Moment,
    Outage,
    Run,
    UncertaintyReport,
    print_uncertainty,
    requirements,
    write_uncertainty,
)
from common.config import Config
from common.files import made_folder
from common.types import Frame
from receiver.pipeline import Shown
from receiver.uncertainty import score
from sender.sources import VideoSource

OUTAGE_S = 2.0, 2.5
"""From, to."""
SETTLED_S = 1.0
"""After the end of the outage."""
LEAST_S = OUTAGE_S[1] + SETTLED_S
"""Of a clip that shows what an outage does."""


@dataclass(frozen=True, slots=True)
class Condition:
    """spec : channel; plain : without a network"""

    name: str
    spec: str
    plain: bool = False


CALM = Condition("no loss", "packet:delay_ms=40")
OUTAGE = Condition("outage", f"packet:delay_ms=40,outage={OUTAGE_S[0]:g}+{OUTAGE_S[1] - OUTAGE_S[0]:g}")
CONDITIONS = (
    CALM, Condition("no loss, base picture", CALM.spec, plain=True),
    Condition("burst loss", "packet:loss=0.05,burst=3,delay_ms=40,jitter_ms=10"), OUTAGE,
)  # fmt: skip


@dataclass(slots=True)
class Noted:
    """What was shown under one condition, of one clip or of all."""

    tally: Tally = field(default_factory=Tally)
    moments: list[Moment] = field(default_factory=list)

    def add(self, frame: Frame, shown: Shown) -> None:
        """One picture beside its source."""
        picture = shown.frame.picture
        self.tally.add(shown.level, frame.picture, picture, shown.uncertainty, shown.taken_back)
        made = float(cell_error(frame.picture, picture).mean())
        expected = score(shown.uncertainty) or 0.0
        self.moments.append(Moment(at_s=frame.time_s, level=shown.level, expected=expected, made=made))

    def run(self, clip: str | None, condition: str) -> Run:
        """In figures."""
        return Run(
            clip=clip, condition=condition, pictures=len(self.moments),
            levels=dict(Counter(moment.level for moment in self.moments)),
            made=float(np.mean([moment.made for moment in self.moments])),
            uncertainty=self.tally.uncertainty(), safety=self.tally.safety(),
        )  # fmt: skip


def run_uncertainty(
    clips: Sequence[NamedClip], out: Path, config: Config, seconds: float | None = None
) -> UncertaintyReport:
    """Measure on every clip, write uncertainty.json and uncertainty.html to `out`, print tables and JSON.

    seconds : of each clip
    """
    made_folder(out)
    together = {condition: Noted() for condition in CONDITIONS}
    runs: list[Run] = []
    outages: list[Outage] = []
    with Progress(console=Console(stderr=True)) as bar:
        for found in bar.track(clips, description="clips"):
            with open_input(found.path, config, seconds) as source:
                clip = Clip.of(source)
                chosen = [one for one in CONDITIONS if one != OUTAGE or clip.frames[-1].time_s > LEAST_S]
                noted = {one: _noted(clip, source, config, one, together[one]) for one in chosen}
            runs += [one.run(found.name, condition.name) for condition, one in noted.items()]
            if OUTAGE not in noted:
                bar.console.print(
                    f"{found.name}: no outage is measured, which takes {LEAST_S:g} s of a clip", markup=False
                )
            else:
                outages.append(outage_of(found.name, noted[OUTAGE].moments, noted[CALM].moments))
    every = [one.run(None, condition.name) for condition, one in together.items() if one.moments]
    report = UncertaintyReport(
        config=config.as_dict(), versions=versions(), conditions={c.name: c.spec for c in CONDITIONS},
        outage_s=OUTAGE_S, requirements=requirements(every, outages), together=every, runs=runs, outages=outages,
    )  # fmt: skip
    write_uncertainty(report, out)
    print_uncertainty(report)
    return report


def _noted(clip: Clip, source: VideoSource, config: Config, condition: Condition, together: Noted) -> Noted:
    config, noted = over_channel(config, condition.spec, config.stream.seed), Noted()
    if condition.plain:
        receiver = config.receiver.model_copy(update={"steps": 0})
        config = config.model_copy(update={"receiver": receiver})

    def on_shown(frame: Frame, shown: Shown, _: float) -> None:
        noted.add(frame, shown)
        together.add(frame, shown)

    over_link(clip, source, config, on_shown)
    return noted


def outage_of(clip: str, seen: Sequence[Moment], without: Sequence[Moment]) -> Outage:
    """What the outage did to the expected error."""
    return Outage(
        clip=clip, seen=list(seen), without=list(without), rise=_times(seen, without, *OUTAGE_S),
        back=_times(seen, without, LEAST_S, float("inf")),
    )  # fmt: skip


def _times(seen: Sequence[Moment], without: Sequence[Moment], start_s: float, end_s: float) -> float:
    means = [
        np.mean([moment.expected for moment in moments if start_s <= moment.at_s < end_s])
        for moments in (seen, without)
    ]
    return float(means[0] / means[1])
