"""Makes the golden stream anew: `python -m tests.golden.make_stream`. Only for a new version of the stream format.

The sender's bytes may change with its encoder and its decisions; what a receiver makes of given bytes may not.
"""

from __future__ import annotations

import json
from pathlib import Path

from common.container import SgvWriter
from common.state import compose, picture_digest
from common.types import Feedback
from tests.small_stream import STREAM, anchor_ids, frame, open_session, order_anchor

STREAM_FILE = Path(__file__).with_name("builtin_128.sgv")
DIGESTS_FILE = STREAM_FILE.with_suffix(".json")
SLOTS = range(20, 96)  # an anchor and its use, a refresh, a scene cut
ANCHOR_SLOT = 28
REFRESH_SLOT = 70
RATE_BPS = 40_000


def main() -> None:
    session, digests = open_session(RATE_BPS), {}
    with SgvWriter(STREAM_FILE) as writer:
        for slot in SLOTS:
            if slot == REFRESH_SLOT:
                session.on_feedback(Feedback(0, refresh=True))
            if slot == ANCHOR_SLOT:
                order_anchor(session)
            step = session.step(frame(slot))
            complete = writer.write(step.units, 5 * session.target.picture_bytes)
            session.on_feedback(Feedback(0, anchors=anchor_ids(complete)))
            if step.units:
                base = compose(step.state, step.residual).base
                digests[slot] = {"state": f"{step.state.digest:08x}", "base": f"{picture_digest(base):08x}"}
    session.close()
    document = {"config": repr(STREAM), "frames": digests}
    DIGESTS_FILE.write_text(json.dumps(document, indent=0) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
