"""Makes the golden streams anew: `python -m tests.golden.make_stream`. Only for a new version of the stream format.

The sender's bytes may change with its encoder and its decisions; what a receiver makes of given bytes may not.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from common.container import SgvWriter
from common.state import compose, picture_digest
from common.types import Feedback
from common.units import Region
from tests.small_stream import STREAM, anchor_ids, frame, open_session, order_anchor

RATE_BPS = 40_000


@dataclass(frozen=True)
class Golden:
    """A stored stream and the digests of its frames. anchors : launched at these slots, None for a whole picture"""

    name: str
    slots: range
    anchors: dict[int, Region | None] = field(default_factory=dict)
    refreshes: tuple[int, ...] = ()

    @property
    def stream_file(self) -> Path:
        return Path(__file__).with_name(f"{self.name}.sgv")

    @property
    def digests_file(self) -> Path:
        return self.stream_file.with_suffix(".json")


STORY = Golden("builtin_128", range(20, 96), {28: None}, (70,))
"""An anchor and its use, a refresh, a scene cut."""
PATCHES = Golden("partial_128", range(20, 64), {24: Region(48, 16, 64, 80), 36: Region(0, 64, 80, 64)})
"""A region of the sharpened guide, then one of that anchor."""


def make(golden: Golden) -> None:
    """Write both files."""
    session, digests = open_session(RATE_BPS), {}
    with SgvWriter(golden.stream_file) as writer:
        for slot in golden.slots:
            if slot in golden.refreshes:
                session.on_feedback(Feedback(0, refresh=True))
            if slot in golden.anchors:
                order_anchor(session, golden.anchors[slot])
            step = session.step(frame(slot))
            complete = writer.write(step.units, 5 * session.target.picture_bytes)
            session.on_feedback(Feedback(0, anchors=anchor_ids(complete)))
            if step.units:
                base = compose(step.state, step.residual).base
                digests[slot] = {"state": f"{step.state.digest:08x}", "base": f"{picture_digest(base):08x}"}
    session.close()
    document = {"config": repr(STREAM), "frames": digests}
    golden.digests_file.write_text(json.dumps(document, indent=0) + "\n", encoding="utf-8")


if __name__ == "__main__":
    make(STORY)
    make(PATCHES)
