"""The sender of an analog link: pictures go out in groups, as symbols, with a few well protected bits beside them.

    frames -> group (8, or up to a cut) -> guide -> symbols          as many as the group's time holds
                                             \\-> GROUP  \\
                                   now and then CONFIG   - records   at most their share, GROUP before anchors
                             a piece of an anchor still /

There is no way back and no closed loop: a receiver makes of it what it can, and follows the anchor's motion by itself.
The guide is coarser than the picture only as far as that costs nothing. What a finer one has in addition is what a
residual would say, and the transform sends the strongest of it first: a residual of its own has nothing left to do.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from common.clock import Clock, SystemClock
from common.colour import pad_to
from common.config import Config
from common.container import piece_record, unit_record
from common.fusion import downsample
from common.softcast import AnalogGroup, Symbols, encode_group
from common.softcast_layout import MAX_COEFFICIENTS, MAX_PICTURES
from common.state import guide_size
from common.stats import StageTimer
from common.types import EncodedUnit, Frame, Picture
from common.units import GroupUnit, StreamConfig
from common.wire import pack_anchor, pack_config, pack_group
from sender.anchors import SIZE_S, encode_anchor
from sender.cuts import CutState, detect_cut
from sender.rate import LINK

CORNER = 4
"""Up to 0.5 dB better at -3 dB than 1 and hardly more metadata; 8 would often take a third of the uses with the most
robust scheme (two clips, 512x512)."""
SPARSITY = 12
"""Coefficients of the guide for each real number that is sent, at least: with fewer, a guide of twice the size is
0.3 to 2 dB better, with more it gains nothing (the same clips, 48000 and 96000 uses a second)."""
_FIRST_METADATA = 0.1
"""Part of the uses that is expected to go to metadata before anything is known."""
_LONGEST_ANCHOR = 2 * SIZE_S
"""Seconds that an anchor may be on its way."""
_LEAST_ANCHOR = 1 / 256
"""Bytes a luma sample below which an anchor is not worth a try."""
_MAX_PIECE = 1 << 16
"""Bytes of an anchor in one group, at most."""


_START_S = 1.0
"""Every group carries the configuration at first: nobody reports that it was lost, and nothing is seen without it."""


@dataclass(frozen=True, slots=True)
class AirBudget:
    """What the sender may spend.

    uses_per_s : complex channel uses a second
    digital_share : largest part of them for records
    uses_of : channel uses of a record of so many bytes
    """

    uses_per_s: float
    digital_share: float
    uses_of: Callable[[int], int]


@dataclass(frozen=True, slots=True, eq=False)
class Transmission:
    """What goes out for the frames `slot` to `slot + frames - 1`, in as much time as they take.

    records : for the digital part; units : those of them that are whole units; piece : bytes of the anchor
    symbols : of the analog part
    events : any of "anchor", "skipped" (too short for its own metadata: nothing is sent)
    """

    slot: int
    frames: int
    records: tuple[bytes, ...] = ()
    units: tuple[EncodedUnit, ...] = ()
    piece: bytes = b""
    symbols: Symbols | None = None
    events: tuple[str, ...] = ()


@dataclass(slots=True)
class _Collected:
    """Frames of the coming group, with their coded-size pictures."""

    scene: bool
    frames: list[Frame] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)


@dataclass(slots=True)
class AnalogSender:
    """One stream. `step` takes frames in order, `flush` ends it.

    scale : of the guide, chosen once
    group_frames : most pictures in a group
    """

    config: StreamConfig
    settings: Config
    budget: AirBudget
    clock: Clock = field(default_factory=SystemClock)
    timer: StageTimer = field(init=False)
    scale: int = field(init=False)
    group_frames: int = field(init=False)
    cuts: CutState = field(default_factory=CutState)
    open_group: _Collected = field(default_factory=lambda: _Collected(scene=True))
    metadata_uses: int = -1
    config_slot: int = -1 << 20
    next_anchor: int = 0
    anchor_slot: int | None = None
    anchor_left: bytes = b""

    def __post_init__(self) -> None:
        self.timer = StageTimer(self.clock)
        chosen = self.settings.guide.scale
        self.scale = scale_for(self.config, self.budget.uses_per_s) if chosen == "auto" else chosen
        self.group_frames = max(
            1, min(MAX_PICTURES, MAX_COEFFICIENTS // _coefficients(self.config, self.scale))
        )

    def step(self, frame: Frame) -> tuple[Transmission | None, bool]:
        """Take one frame: the group that ends with it or before it, if one does; and whether it begins a scene."""
        with self.timer.stage("sender total"):
            picture = pad_to(frame.picture, self.config.coded_width, self.config.coded_height)
            cut, self.cuts = detect_cut(self.cuts, picture)
            sent = None
            if cut:
                sent, self.open_group = self.flush(), _Collected(scene=True)
                self.anchor_slot, self.anchor_left = None, b""
            self.open_group.frames.append(frame)
            self.open_group.pictures.append(picture)
            full = len(self.open_group.frames) >= self.group_frames
            return (self.flush() if full else sent), cut

    def flush(self) -> Transmission | None:
        """Send the frames collected so far, None without any."""
        group, self.open_group = self.open_group, _Collected(scene=False)
        sent = self._send(group) if group.frames else None
        if sent is None or sent.symbols is None:
            self.open_group.scene = group.scene
        return sent

    def close(self) -> None:
        """Nothing is held."""

    # --- parts ----------------------------------------------------------------------------------------------------

    def _send(self, group: _Collected) -> Transmission:
        """The group in exactly the channel uses of its time."""
        slot, frames = group.frames[0].slot, len(group.frames)
        uses = self._uses_before(slot + frames) - self._uses_before(slot)
        units = self._config_due(slot)
        room = uses - sum(self.budget.uses_of(len(unit_record(unit.data))) for unit in units)
        with self.timer.stage("analog guide"):
            sent = self._fitted(group, uses, room)
        if sent is None:
            return Transmission(slot, frames, events=("skipped",))
        unit, piece, symbols = sent
        units.append(unit)
        records = [unit_record(unit.data) for unit in units]
        if piece:
            self.anchor_left = self.anchor_left[len(piece) :]
            records.append(piece_record(piece, last=not self.anchor_left))
        if units[0] is not unit:
            self.config_slot = slot
        with self.timer.stage("anchor"):
            launched = self._launch(group, int(self.budget.digital_share * uses) - self.metadata_uses)
        events = ("anchor",) if launched else ()
        return Transmission(slot, frames, tuple(records), tuple(units), piece, symbols, events)

    def _fitted(self, group: _Collected, uses: int, room: int) -> tuple[EncodedUnit, bytes, Symbols] | None:
        """GROUP, piece of the anchor and symbols that fill `room` of `uses`; None where the GROUP alone is too long."""
        guide = [downsample(picture, self.scale) for picture in group.pictures]
        share = int(self.budget.digital_share * uses) - (uses - room)

        def symbols_left(reserved: int) -> int:
            return room - reserved - self._piece_uses(len(self._piece(share - reserved)))

        def uses_of(coded: AnalogGroup) -> int:
            return self.budget.uses_of(len(unit_record(pack_group(self._described(group, coded)).data)))

        expected = self.metadata_uses if self.metadata_uses >= 0 else int(_FIRST_METADATA * uses)
        coded, reserved = filled(guide, symbols_left, uses_of, min(expected, uses // 4), CORNER)
        if coded is None:
            return None
        self.metadata_uses = uses_of(coded)
        return pack_group(self._described(group, coded)), self._piece(share - reserved), coded.symbols

    def _described(self, group: _Collected, coded: AnalogGroup) -> GroupUnit:
        regular = all(frame.pts == self.config.pts_of(frame.slot) for frame in group.frames)
        pts = () if regular else tuple(frame.pts for frame in group.frames)
        return GroupUnit(group.frames[0].slot, group.scene, self.scale, pts, coded.metadata)

    def _piece(self, uses: int) -> bytes:
        """What comes next of the anchor, in at most so many channel uses."""
        lengths = range(len(self.anchor_left) + 1)
        return self.anchor_left[: max(0, bisect_right(lengths, uses, key=self._piece_uses) - 1)]

    def _piece_uses(self, length: int) -> int:
        return self.budget.uses_of(len(piece_record(bytes(length), last=False))) if length else 0

    def _launch(self, group: _Collected, spare_uses: int) -> bool:
        """Make the group's last picture an anchor if one is due and can be there in time.

        spare_uses : that a group like this one has for it
        """
        last, settings = group.frames[-1], self.settings.anchor
        age = None if self.anchor_slot is None else last.slot - self.anchor_slot
        due = age is None or age >= settings.max_age_s * self.config.frame_rate
        if not settings.enabled or self.anchor_left or not due or self.cuts.passing:
            return False
        picture, rate = group.pictures[-1], self.config.frame_rate
        piece = bisect_right(range(_MAX_PIECE + 1), spare_uses, key=self._piece_uses) - 1
        bytes_per_s = piece / len(group.frames) * float(rate)
        if SIZE_S * bytes_per_s < _LEAST_ANCHOR * picture.y.size:
            return False
        unit = encode_anchor(
            picture, last.slot, self.next_anchor, SIZE_S * bytes_per_s, rate, self.settings.guide.preset
        )
        data = pack_anchor(unit).data
        self.anchor_slot = last.slot  # also of one that is given up: the next is not tried before its time
        if len(data) > _LONGEST_ANCHOR * bytes_per_s:
            return False
        self.anchor_left, self.next_anchor = data, (self.next_anchor + 1) % 256
        return True

    def _uses_before(self, slot: int) -> int:
        """Channel uses up to the frame at `slot`: whole ones, so that no sum of them exceeds the rate."""
        return int(self.budget.uses_per_s * slot / self.config.frame_rate)

    def _config_due(self, slot: int) -> list[EncodedUnit]:
        chosen = self.settings.sender.config_interval_s
        interval_s = LINK.config_interval_s if chosen == "auto" else chosen
        late = slot - self.config_slot >= interval_s * self.config.frame_rate
        early = slot < _START_S * self.config.frame_rate
        return [pack_config(self.config, slot)] if late or early else []


def filled(
    pictures: Sequence[Picture],
    symbols_left: Callable[[int], int],
    uses_of: Callable[[AnalogGroup], int],
    reserved: int,
    corner: int,
) -> tuple[AnalogGroup | None, int]:
    """A group with all the symbols that its metadata leave, and the uses kept for these; None where they leave none.

    symbols_left : symbols where so many uses are kept for metadata
    uses_of : channel uses of a group's metadata, which are known only once its symbols have been counted
    reserved : uses that they are expected to take
    """
    while (symbols := symbols_left(reserved)) >= 1:
        coded = encode_group(pictures, symbols, corner)
        needed = uses_of(coded)
        if needed <= reserved:
            return coded, reserved
        reserved = needed
    return None, reserved


def scale_for(config: StreamConfig, uses_per_s: float) -> int:
    """The coarsest guide that has `SPARSITY` coefficients for every real number, or full size; and groups of eight."""
    reals = 2 * uses_per_s / float(config.frame_rate)
    fine = [s for s in (8, 4, 2, 1) if _coefficients(config, s) * MAX_PICTURES <= MAX_COEFFICIENTS]
    dense = (s for s in fine if _coefficients(config, s) >= SPARSITY * reals)
    return next(dense, fine[-1] if fine else 8)


def _coefficients(config: StreamConfig, scale: int) -> int:
    """Of one picture of the guide."""
    width, height = guide_size(config, scale)
    return width * height * 3 // 2
