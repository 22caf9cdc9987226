"""What `semcast bench ablation` compares: each row turns one idea on or off, all else as in the reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from common.config import Config, load_config

DECODER_SECTIONS = ("receiver", "decoder")
"""Settings of these change no byte of the stream."""


@dataclass(frozen=True, slots=True)
class Row:
    """One way to send and paint a clip. set : settings on top of those of the reference, `section.key=value`"""

    name: str
    set: tuple[str, ...] = ()

    @property
    def sent_with(self) -> tuple[str, ...]:
        """Those of `set` that the sender acts on: rows that agree in them are painted from the same bytes."""
        return tuple(text for text in self.set if text.partition(".")[0].strip() not in DECODER_SECTIONS)


REFERENCE = Row("reference")
FOUR_STEPS = Row("4 steps", ("receiver.steps=4",))
FOUR_FROM_NOISE = Row("4 steps from noise", ("receiver.steps=4", "decoder.start=noise"))
REUSE = Row("4 steps, reuse", ("receiver.steps=4", "decoder.reuse=true"))

ROWS: tuple[Row, ...] = (
    REFERENCE,
    Row("2 steps", ("receiver.steps=2",)),
    FOUR_STEPS,
    Row("1 step where it helps", ("receiver.steps=auto",)),
    Row("1 step where it helps much", ("receiver.steps=auto", "receiver.least_gain=1")),
    Row("1 step wherever the picture changed", ("receiver.steps=auto", "receiver.least_gain=0")),
    Row("1 step from noise", ("decoder.start=noise",)),
    FOUR_FROM_NOISE,
    REUSE,
    Row("2 steps, reuse", ("receiver.steps=2", "decoder.reuse=true")),
    Row("moving", ("decoder.moving=true",)),
    Row("half the noise shared", ("decoder.shared_noise=0.5",)),
    Row("no noise shared", ("decoder.shared_noise=0",)),
    Row("previous output unseen", ("decoder.previous=false",)),
    Row("temporal guidance 0.5", ("decoder.temporal_guidance=0.5",)),
    Row("temporal guidance 1.5", ("decoder.temporal_guidance=1.5",)),
    Row("guide pull 0.5", ("decoder.guide_pull=0.5",)),
    Row("no pulls", ("decoder.base_pull=0", "decoder.detail_pull=0")),
    Row("no safety", ("decoder.safety=false",)),
    Row("full-size guides repaired however fine", ("decoder.sparing=false",)),
    Row("uncertainty of the network alone", ("decoder.uncertainty=network",)),
    Row("structure level 1", ("decoder.structure_level=1",)),
    Row("structure level 2", ("decoder.structure_level=2",)),
    Row("labels unseen", ("decoder.labels=none",)),
    Row("labels predicted, not sent", ("semantics.enabled=false", "decoder.labels=predicted")),
    Row("no residual", ("residual.enabled=false",)),
    Row("residual by error alone", ("residual.by_labels=false",)),
    Row("no anchors", ("anchor.enabled=false",)),
    Row("content-frame anchors", ("anchor.content=true",)),
    Row("anchors in parts", ("anchor.partial=true",)),
    Row("anchor policy blind to the link", ("anchor.by_link=false",)),
    Row("no motion corrections", ("motion.corrections=false",)),
)
"""All of one step, unless they say otherwise."""


def config_of(row: Row, path: Path | None, overrides: Sequence[str]) -> Config:
    """The settings of a row on top of the user's. One step and one thread a process; ConfigError for a wrong one."""
    return load_config(path, ["receiver.threads=1", *overrides, "receiver.steps=1", *row.set])
