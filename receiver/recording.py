"""Recording in the middle of a stream: what arrives into NAME.sgv, what is shown into NAME.mp4.

A recording begins with the next key frame, which builds on the configuration alone and forgets all anchors: nothing
that came before it is needed. Whoever begins one asks the sender for a key frame.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from itertools import chain, count
from pathlib import Path

from common.container import SgvWriter
from common.errors import BitstreamError, SinkError
from common.files import made_folder
from common.provenance import WeightsId
from common.state import initial_state
from common.types import EncodedUnit, UnitKind
from common.units import AnchorUnit, ConfigUnit, StreamConfig
from common.wire import builds_on, is_key, is_note, kind_of, pack_config, parse_unit, slot_near
from receiver.pipeline import Shown
from receiver.provenance import PaintedTally
from receiver.sinks import BackgroundSink, Mp4Sink
from receiver.timeline import Timeline

_TURNS = 8
"""A key frame says the low eight bits of its number; that many times 256 frames it may be away from where it is expected,
which is more than a minute."""


class Recorder:
    """One recording of one stream, until another stream begins. To be called by one thread at a time.

    model : the weights that may paint, which the files name; None where none is loaded
    files : names of the recording's files; where there are files of that name, NAME-2 and so on
    Raises SinkError where nothing can be written. Whatever raises SinkError later has given the recording up: what was
    written stays under partial names.
    """

    def __init__(self, folder: Path, name: str, stream: StreamConfig, model: WeightsId | None = None) -> None:
        _make(folder)
        stem = _free_stem(folder, name)
        self.files = f"{stem}.sgv", f"{stem}.mp4"
        self._sgv_path, self._mp4_path = (folder / file for file in self.files)
        self._stream, self._tally = stream, PaintedTally(model)
        self._start_digest = initial_state(stream).digest
        self._timeline = Timeline(stream)
        self._near_slot, self._told = 0, False
        self._first_slot: int | None = None
        self._sgv: SgvWriter | None = None
        self._mp4: BackgroundSink | None = None
        self._listening, self._given_up = True, False

    @property
    def begun(self) -> bool:
        """Whether the key frame that it begins with has come."""
        return self._first_slot is not None

    def unit(self, data: bytes) -> None:
        """Take a complete unit, in order of arrival; those of no use, or damaged as far as can be seen, are left out."""
        if not self._listening:
            return
        try:
            if is_note(data):  # the sender does not speak for this file
                return
            kind = kind_of(data)
            parsed = parse_unit(data, 0, 0) if kind in (UnitKind.CONFIG, UnitKind.ANCHOR) else None
        except BitstreamError:
            return
        with self._giving_up():
            if isinstance(parsed, ConfigUnit):
                self._configuration(parsed, data)
            elif isinstance(parsed, AnchorUnit):
                if self._first_slot is not None and parsed.slot >= self._first_slot:
                    self._write(UnitKind.ANCHOR, data)
            else:
                self._frame_or_residual(kind, data)

    def shown(self, shown: Shown) -> None:
        """Take a picture as it is shown. A slow disk holds this up."""
        if not self._listening:
            return
        slot = shown.frame.slot
        if not self._told:
            self._near_slot = slot
        if self._first_slot is None or slot < self._first_slot or (shown.concealed and self._mp4 is None):
            return  # until the key frame is shown, what is held is from before it
        with self._giving_up():
            if self._mp4 is None:
                stream = self._stream
                sink = Mp4Sink(
                    self._mp4_path, stream.frame_rate, stream.time_base, stream.colour, self._tally.marking
                )
                self._mp4 = BackgroundSink(sink)
            self._tally.add(shown)
            self._mp4.show(replace(shown.frame, pts=self._timeline.place(shown.frame)))

    def close(self) -> tuple[str, ...]:
        """Complete the files and say which there are: NAME.mp4 is not among them if no picture was shown yet.

        Raises SinkError where nothing was recorded.
        """
        self._listening = False
        if self._sgv is None:
            raise SinkError("nothing was recorded: no key frame has come since the recording was begun")
        if self._given_up:
            raise SinkError(f"{self._sgv_path}: the recording was given up")
        with self._giving_up(), ExitStack() as files:
            if self._mp4 is not None:
                files.callback(self._mp4.close)
            files.callback(self._sgv.close)
        return self.files if self._mp4 is not None else self.files[:1]

    def abandon(self) -> None:
        """Stop without completing the files; what was written stays under partial names. Harmless after `close`."""
        self._listening, self._given_up = False, True
        for file in (self._sgv, self._mp4):
            if file is not None:
                file.abandon()

    # --- parts ----------------------------------------------------------------------------------------------------

    @contextmanager
    def _giving_up(self) -> Iterator[None]:
        try:
            yield
        except SinkError:
            self.abandon()
            raise

    def _configuration(self, unit: ConfigUnit, data: bytes) -> None:
        if unit.config != self._stream:
            self._listening = False  # another stream: what was recorded is complete
            return
        self._near_slot, self._told = unit.slot, True
        if self._sgv is not None:
            self._write(UnitKind.CONFIG, data)

    def _frame_or_residual(self, kind: UnitKind, data: bytes) -> None:
        slot = self._slot_of_key(data) if is_key(data) else None
        if slot is not None:
            if self._sgv is None:
                self._sgv, self._first_slot = SgvWriter(self._sgv_path, self._tally.marking), slot
            # In a file no clock tells which of the numbers modulo 256 is meant; after an outage this does.
            self._write(UnitKind.CONFIG, pack_config(self._stream, slot).data)
            self._near_slot, self._told = slot, True
        if self._sgv is not None:
            self._write(kind, data)

    def _slot_of_key(self, data: bytes) -> int | None:
        """The full number of an intact key frame: its check proves it. None for any other."""
        for turn in sorted(range(-_TURNS, _TURNS + 1), key=abs):
            slot = slot_near(data, self._near_slot + 256 * turn)
            if builds_on(data, slot, self._start_digest):
                return slot
        return None

    def _write(self, kind: UnitKind, data: bytes) -> None:
        assert self._sgv is not None
        self._sgv.write([EncodedUnit(kind, 0, data)])


def _free_stem(folder: Path, name: str) -> str:
    """`name`, or `name` with a number, such that nothing is overwritten, nor what is left of one that was given up."""
    stems = chain([name], (f"{name}-{number}" for number in count(2)))
    endings = (".sgv", ".mp4", ".sgv.partial", ".partial.mp4")
    return next(stem for stem in stems if not any((folder / f"{stem}{end}").exists() for end in endings))


def _make(folder: Path) -> None:
    """Refuse when a recording is asked for what would otherwise be refused when its first unit comes."""
    made_folder(folder)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise SinkError(f"{folder}: nothing may be written there; choose another folder")
