"""The figures of the page, from what a receiver has taken in and shown."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from typing import TYPE_CHECKING

from common.errors import BitstreamError
from common.types import Layer, UnitKind
from common.wire import kind_of
from receiver.uncertainty import score
from receiver.web.messages import LinkState, PageStats

if TYPE_CHECKING:
    from receiver.pipeline import Shown
    from receiver.reassembly import ReassemblyStats

WINDOW_S = 2.0
"""Rates are means over this time: long enough for an anchor, which is counted when its last byte is there."""
SILENT_AFTER_S = 1.0

_LAYERS = {UnitKind.CONFIG: Layer.CONFIG, UnitKind.ANCHOR: Layer.ANCHOR, UnitKind.RESIDUAL: Layer.RESIDUAL}


class Meter:
    """Of one stream. Times are the receiver's."""

    def __init__(self) -> None:
        self._units: Counter[Layer] = Counter()
        self._pictures: deque[float] = deque()
        self._bytes: deque[tuple[float, int, Counter[Layer]]] = deque()
        self._last: Shown | None = None
        self._totals: Counter[str] = Counter()

    def unit(self, data: bytes) -> None:
        """Count one unit that arrived. What frames divide into is for the decoder to say."""
        try:
            layer = _LAYERS.get(kind_of(data))
        except BitstreamError:
            return
        if layer is not None:
            self._units[layer] += len(data)

    def picture(self, shown: Shown, now_s: float) -> None:
        """Count one picture that is shown."""
        self._last = shown
        self._totals.update(
            shown=1,
            concealed=int(shown.concealed),
            late=int(shown.late),
            taken_back=int(shown.taken_back > 0),
        )
        if not shown.concealed:
            self._pictures.append(now_s)

    def stats(
        self,
        now_s: float,
        heard_s: float | None,
        frame_layers: Mapping[Layer, int],
        wire: ReassemblyStats,
        budget_ms: float | None,
        delay_ms: float | None = None,
    ) -> PageStats:
        """The figures of now.

        heard_s : when anything arrived last; frame_layers : bytes of all frames so far (`SceneDecoder.layers`)
        delay_ms : from capture to display, where both ends have one clock
        """
        while self._pictures and self._pictures[0] <= now_s - WINDOW_S:
            self._pictures.popleft()
        rate_bps, layer_bps = self._rates(now_s, wire.received_bytes, self._units + Counter(frame_layers))
        last = self._last
        return PageStats(
            link=_link(now_s, heard_s), rate_bps=rate_bps, layer_bps=layer_bps, loss_ratio=wire.loss_ratio,
            width=last.frame.picture.width if last else 0, height=last.frame.picture.height if last else 0,
            fps=self._fps(now_s), spent_ms=last.spent_s * 1e3 if last else 0.0, budget_ms=budget_ms,
            delay_ms=delay_ms, level=last.level if last else "",
            uncertainty=score(last.uncertainty) if last else None, taken_back=last.taken_back if last else 0.0,
            shown=self._totals["shown"], concealed=self._totals["concealed"], late=self._totals["late"],
            taken_back_pictures=self._totals["taken_back"],
        )  # fmt: skip

    def _fps(self, now_s: float) -> float:
        """From the first picture of the window to the last; a standstill counts up to now."""
        if len(self._pictures) < 2:
            return 0.0
        interval_s = (self._pictures[-1] - self._pictures[0]) / (len(self._pictures) - 1)
        since_s = max(self._pictures[-1], now_s - interval_s) - self._pictures[0]
        return (len(self._pictures) - 1) / since_s if since_s > 0 else 0.0

    def _rates(
        self, now_s: float, received: int, layers: Counter[Layer]
    ) -> tuple[float, tuple[tuple[str, float], ...]]:
        """Bits a second of everything and of each layer; what belongs to none is overhead."""
        self._bytes.append((now_s, received, layers))
        while len(self._bytes) > 2 and self._bytes[1][0] <= now_s - WINDOW_S:
            self._bytes.popleft()
        then_s, received_then, layers_then = self._bytes[0]
        elapsed_s = now_s - then_s
        if elapsed_s <= 0:
            return 0.0, ()
        bits = {layer: 8.0 * (layers[layer] - layers_then[layer]) / elapsed_s for layer in Layer}
        rate_bps = 8.0 * (received - received_then) / elapsed_s
        inside = sum(bits.values()) - bits[Layer.OVERHEAD]
        bits[Layer.OVERHEAD] = max(bits[Layer.OVERHEAD], rate_bps - inside)
        return rate_bps, tuple((layer.name.lower(), value) for layer, value in bits.items() if value > 0)


def _link(now_s: float, heard_s: float | None) -> LinkState:
    if heard_s is None:
        return "waiting"
    return "silent" if now_s - heard_s > SILENT_AFTER_S else "connected"
