"""How long the steps of both ends take, over calibration kernels that are timed in turn with them.

    base picture, decode and advance, sender per frame    over    integer passes, OpenCV and JPEG over a small picture
    network step (conditions, one step, picture)          over    a stack of convolutions in bfloat16

Processor time of the whole process, which has one thread but those of the encoder: a busy machine makes it noisy, not
long. The kernels use nothing of the project, and never change without a new `KERNEL`: old ratios mean nothing then.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import cycle

import cv2
import numpy as np
import torch

from benchmarks.files import open_sender
from benchmarks.gate.cases import ANCHORED
from benchmarks.gate.model import Kind, Row
from benchmarks.gate.ratios import Effort, Ratio, compare
from benchmarks.latency_levels import WARM_UP_RUNS, Scene
from benchmarks.link import launch_anchor
from common.config import Config
from common.state import Composition, compose
from common.types import Feedback, Frame
from common.units import StreamConfig
from receiver.chain import SceneDecoder
from receiver.decoder.conditions import FrameFacts
from receiver.decoder.synth import BridgeSynthesizer
from sender.labels import LabelAnalyzer
from sender.pipeline import SenderSession
from sender.rate import RateTarget

KERNEL = 1
CASE = "speed"
EFFORT = Effort()
ATTEMPTS = 3
"""Measurements of a row before it is called slower: noise goes away, a regression stays."""

_SCENES = 8
_COMPOSED, _DECODED, _SENT = 4, 12, 5  # scenes, units and frames in one timed call

Work = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Subject:
    """What is timed. per : pictures in one call of `work`"""

    name: str
    work: Work
    kernel: Work
    per: int

    @property
    def key(self) -> str:
        return f"{CASE}: {self.name}"


def processor_s(work: Work) -> float:
    """Processor time that a call takes, seconds."""
    began_s = time.process_time()
    work()
    return time.process_time() - began_s


def measure(subject: Subject, effort: Effort = EFFORT) -> Row:
    """Time it in turn with its kernel; the ratio is for one picture."""
    for _ in range(WARM_UP_RUNS):
        subject.work()
        subject.kernel()
    with _undisturbed():
        found = compare(subject.work, subject.kernel, processor_s, effort)
    return _row(subject, found)


def _row(subject: Subject, found: Ratio) -> Row:
    value, low, high = (round(x / subject.per, 5) for x in (found.value, found.low, found.high))
    return Row(case=CASE, name=subject.name, kind=Kind.SPEED, value=value, low=low, high=high)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Without garbage collections, and on one thread."""
    threads, cv_threads = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        torch.set_num_threads(threads)
        cv2.setNumThreads(cv_threads)


# --- kernels ------------------------------------------------------------------------------------------------------


def convolutions() -> Work:
    """About four milliseconds of 3x3 convolutions, 32 channels at 128x128, bfloat16."""
    generator = torch.Generator().manual_seed(0)
    x, weights = (torch.randn(*shape, generator=generator) for shape in ((1, 32, 128, 128), (32, 32, 3, 3)))
    x, weights = (t.bfloat16().to(memory_format=torch.channels_last) for t in (x, weights / 17))

    @torch.inference_mode()
    def work() -> None:
        z = x
        for _ in range(4):
            z = torch.nn.functional.silu(torch.nn.functional.conv2d(z, weights, padding=1))

    return work


def integers() -> Work:
    """About four milliseconds of integer passes, resizing and entropy coding over a 256x256 picture."""
    noise = np.random.default_rng(0).integers(0, 256, (256, 256), np.uint8)
    picture = cv2.GaussianBlur(noise, (5, 5), 2)

    def work() -> None:
        for shift in range(1, 25):
            wide = picture.astype(np.int16) * np.int16(shift)
            wide += np.roll(wide, shift, 1)
            wide >>= 1
            np.clip(wide, 0, 255, out=wide).sum(dtype=np.int32)
            half = cv2.resize(picture, (128, 128), interpolation=cv2.INTER_AREA)
            cv2.resize(half, (256, 256), interpolation=cv2.INTER_CUBIC)
        for quality in (40, 60, 80):
            _, coded = cv2.imencode(".jpg", picture, (cv2.IMWRITE_JPEG_QUALITY, quality))
            cv2.imdecode(coded, cv2.IMREAD_UNCHANGED)

    return work


# --- subjects -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Stream:
    """What the real sender made of the case with an anchor.

    units : (bytes, time of the frame); scenes : those with an anchor in use
    """

    config: Config
    stream: StreamConfig
    frames: tuple[Frame, ...]
    units: tuple[tuple[bytes, float], ...]
    scenes: tuple[Scene, ...]


def record() -> Stream:
    """Send the case; anchors arrive at once."""
    config, decoder, units, scenes = ANCHORED.config, SceneDecoder(), [], []
    with ANCHORED.open() as source:
        frames, sender = tuple(source), open_sender(source, config)
    try:
        for frame in frames:
            launch_anchor(sender)
            for unit in sender.step(frame).units:
                units.append((unit.data, frame.time_s))
                decoder.push(unit.data, frame.time_s)
            sender.on_feedback(Feedback(0, anchors=decoder.anchor_ids))
            state = decoder.scene_at(frame.slot)
            if state is not None and state.anchor is not None:
                scenes.append(Scene.of(state, decoder.residual_of(state)))
    finally:
        sender.close()
    return Stream(config, sender.config, frames, tuple(units), tuple(scenes[:_SCENES]))


def open_subjects(stream: Stream) -> tuple[Subject, ...]:
    """Everything that is timed. WeightsError without the decoder's weights."""
    network, rest = convolutions(), integers()
    return (
        Subject("network step", _painting(stream), network, 1),
        Subject("base picture", partial(_compose, stream.scenes[:_COMPOSED]), rest, _COMPOSED),
        Subject("decode and advance", partial(_decode, stream.units[:_DECODED]), rest, _DECODED),
        Subject("sender", _sending(stream), rest, _SENT),
    )


def _painting(stream: Stream) -> Work:
    receiver = stream.config.receiver
    settings = stream.config.decoder.model_copy(update={"sparing": False})  # every picture costs a step
    painter = BridgeSynthesizer.load(receiver.decoder, device="cpu", settings=settings, backend="torch")
    composed = [(compose(scene.state, scene.residual), scene.facts) for scene in stream.scenes]
    turns: Iterator[tuple[Composition, FrameFacts]] = cycle(composed)
    return lambda: painter.render(*next(turns), "bridge1", lambda: False)


def _compose(scenes: Sequence[Scene]) -> None:
    for scene in scenes:
        compose(scene.state, scene.residual)


def _decode(units: Sequence[tuple[bytes, float]]) -> None:
    decoder = SceneDecoder()
    for data, at_s in units:
        decoder.push(data, at_s)


def _sending(stream: Stream) -> Work:
    """The first frames of a stream, opening its encoder included; the label network is loaded once."""
    labels = LabelAnalyzer()
    target = RateTarget(stream.config.stream.bitrate_bps, float(stream.stream.frame_rate))

    def work() -> None:
        labels.reset()
        sender = SenderSession(stream.stream, stream.config, labels, target)
        for frame in stream.frames[:_SENT]:
            sender.step(frame)
        sender.close()

    return work
