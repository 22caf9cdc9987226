"""The ladder that the receiver climbs: from holding a picture to four steps of the bridge.

hold     the picture shown last (the base picture where there is none)
guide    the guide, upsampled
base     the deterministic base picture
carry    the base picture with the detail that the network painted last, where it still fits
bridgeK  K network calls on top of it, K in 1, 2, 4

Where the network cannot help (helping.py) carry and bridgeK are the base picture too, and say so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self, cast

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from common.config import DecoderSettings
from common.errors import ConfigError
from common.labelnet import LabelNet, load_labelnet
from common.state import Composition
from common.types import Picture, Plane
from common.weights import LoadedWeights, load_weights
from receiver.decoder import bridge
from receiver.decoder.backends import BackendName, open_network
from receiver.decoder.carry import Detail, carried
from receiver.decoder.conditions import (
    UNITS,
    Conditions,
    FrameFacts,
    Observation,
    assemble,
    coarser,
    known_noise,
    observe,
    to_samples,
    unpack,
)
from receiver.decoder.helping import is_blank, is_fine
from receiver.decoder.loading import DeviceName, model_of, pick_device, prepared
from receiver.decoder.memory import Memory, change_since, half_size, motion_since, moved
from receiver.decoder.model import FAMILY, TinyBridge
from receiver.decoder.parts import Telling, advanced
from receiver.decoder.reuse import Path
from receiver.decoder.running import Correction, bridge_parts, correction_of
from receiver.gauge import Gauge
from receiver.safety import doubt_of, take_back
from receiver.uncertainty import CALIBRATION, Calibrations, Cells, Estimator, Map, parsed

LEVELS = ("hold", "guide", "base", "carry", "bridge1", "bridge2", "bridge4")

DEFAULTS = DecoderSettings()

CUT_CHANGE = 28.0
"""Mean change of the base picture, sample steps, from which on the picture before says nothing about this one. The cuts
of the development clips change the source by 44 to 95, all other pictures but six, in whip pans, by less than 28."""


@dataclass(frozen=True, slots=True, eq=False)
class Painted:
    """What a level produced.

    picture : at the coded size
    uncertainty : how wrong it may be, see receiver/uncertainty.py; None from a painter that cannot say
    steps_done : network calls behind the picture; fewer than asked when stopped, 0 = below bridge1
    carried : detail was carried over
    taken_back : share of the cells where the network contradicted the guide, so that the base picture is shown, 0..1
    """

    picture: Picture
    uncertainty: Map | None
    steps_done: int
    carried: bool = False
    taken_back: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """A run of the bridge that has begun, and may be left and gone on with.

    composition, facts : of the frame it was begun on; small : luma of its base picture at half size, uint8 [H/2,W/2]
    base : that base picture as the network sees it; trust : see Conditions; times, noise : of the run
    """

    composition: Composition
    facts: FrameFacts
    small: Plane
    base: Tensor
    trust: Tensor
    times: tuple[float, ...]
    noise: Tensor
    run: Telling[bridge.Sampled]


class BridgeSynthesizer:
    """Paints compositions. All it remembers are the picture it showed last, the last one that the network painted, and
    how far it is with one that was not finished (`reset` forgets all).

    That memory is private to this receiver: the stream does not depend on it.
    """

    levels = LEVELS

    def __init__(
        self,
        model: TinyBridge,
        *,
        device: DeviceName = "auto",
        dtype: torch.dtype = torch.bfloat16,
        seed: int = 0,
        settings: DecoderSettings = DEFAULTS,
        correction: Correction | None = None,
        backend: BackendName = "torch",
        estimator: Estimator | None = None,
    ) -> None:
        """model : its weights are moved to `device` and `dtype`; seed : of the noise
        correction : by default as in `settings`; estimator : by default takes the network at its word
        """
        self._device = pick_device(device)
        self._dtype = dtype
        self._model = open_network(prepared(model, self._device, dtype), backend, self._device)
        self._seed = seed
        self._settings = settings
        self._correction = correction or correction_of(settings)
        self._labels: LabelNet | None = load_labelnet() if settings.labels == "predicted" else None
        self._memory: Memory | None = None
        self._detail: Detail | None = None
        self._path: Path | None = None
        self._job: Job | None = None
        # Other backends keep the number that they were opened with, and other devices have their own.
        self._divisible = self._device.type == "cpu" and isinstance(self._model, TinyBridge)
        self._threads = torch.get_num_threads() if self._divisible else 1
        self._gauge = Gauge(estimator)

    @classmethod
    def load(
        cls,
        name_or_path: str = "tiny",
        *,
        device: DeviceName = "auto",
        seed: int = 0,
        settings: DecoderSettings = DEFAULTS,
        backend: BackendName = "torch",
    ) -> Self:
        """With the weights shipped under this name, or in this safetensors file; else WeightsError."""
        weights = load_weights(name_or_path, FAMILY)
        return cls(
            model_of(weights, name_or_path), device=device, seed=seed, settings=settings, backend=backend,
            estimator=_estimator_of(weights, name_or_path, settings),
        )  # fmt: skip

    @property
    def held(self) -> Picture | None:
        """The picture painted last."""
        return None if self._memory is None else self._memory.shown

    def held_map(self, slot: int) -> Map | None:
        """How wrong the picture painted last is at the time of frame `slot`."""
        return self._gauge.held_at(slot)

    @property
    def threads(self) -> tuple[int, ...]:
        """Numbers of processor threads that make a difference."""
        return (1,) if self._threads == 1 else (1, self._threads)

    def use_threads(self, count: int) -> None:
        """Paint on so many threads, one of `threads`, from now on."""
        if self._threads > 1 and count != torch.get_num_threads():
            torch.set_num_threads(count)

    def change(self, composition: Composition) -> float | None:
        """Mean change of the base picture, sample steps, since the one whose detail could be carried over; None without
        one."""
        detail = self._detail
        return None if detail is None else detail.change(half_size(composition.base))

    def reset(self, seed: int | None = None) -> None:
        """Forget all pictures: after a seek or a loss of state. seed : of the noise from now on"""
        self._memory = self._detail = self._path = self._job = None
        self._gauge.reset()
        self._seed = self._seed if seed is None else seed

    def warm_up(self, height: int, width: int) -> None:
        """One throw-away step at this size (multiples of 16): the first is the slowest. Nothing of it is remembered."""
        planes = [np.full((height // k, width // k), 128, np.uint8) for k in (1, 2, 2, 8, 16, 16)]
        grey = Picture(*planes[:3])
        blank = Composition(grey, None, grey, planes[3], planes[4] * 0, planes[5] * 0)
        self._bridge(blank, FrameFacts(), 1, lambda: False)
        self.reset()

    def render(
        self, composition: Composition, facts: FrameFacts, level: str, should_stop: Callable[[], bool]
    ) -> Painted:
        """Paint one frame.

        level : one of `levels`; ConfigError otherwise
        should_stop : asked before every network call, and by the torch backend several times during one; once it says
            True the newest picture is returned
        """
        if level not in LEVELS:
            raise ConfigError(f"unknown decoder level {level!r}: use one of {', '.join(LEVELS)}")
        if level in LEVELS[3:] and self._can_help(composition, facts):
            if level == "carry":
                return self._carry(composition, facts)
            return self._bridge(composition, facts, int(level[-1]), should_stop)
        picture, uncertainty = self._gauge.plain(level, composition, facts)
        self._memory = Memory(picture, half_size(composition.base))
        return Painted(picture, uncertainty, 0)

    def _can_help(self, composition: Composition, facts: FrameFacts) -> bool:
        """Whether a network call may make a better picture of it than the base picture is."""
        spare = self._settings.sparing and (facts.spared or is_fine(composition, facts))
        return not (spare or is_blank(composition))

    @torch.inference_mode()
    def _bridge(
        self, composition: Composition, facts: FrameFacts, steps: int, should_stop: Callable[[], bool]
    ) -> Painted:
        job = self._job = self._begun(composition, facts, steps)
        sampled = advanced(job.run, should_stop)
        # What was not finished may be gone on with while later pictures are shown.
        return self._carry(composition, facts) if sampled is None else self._painted(job, sampled)

    @torch.inference_mode()
    def go_on(
        self, composition: Composition, facts: FrameFacts, should_stop: Callable[[], bool]
    ) -> Painted | None:
        """In the time that carrying detail over leaves, until `should_stop` says so: go on with a step that did not fit
        into that of one picture, of this one or of one before it. What it paints is carried over from then on; returned
        where it is this very picture."""
        if not self._divisible or not self._can_help(composition, facts):
            return None
        while not should_stop():
            job = self._job = self._unfinished(composition) or self._begun(composition, facts, 1)
            sampled = advanced(job.run, should_stop)
            if sampled is None:
                return None
            painted = self._painted(job, sampled)
            if job.composition is composition:
                return painted
        return None

    def _carry(self, composition: Composition, facts: FrameFacts) -> Painted:
        """The base picture with the detail painted last, unless that is of another scene."""
        small, detail = half_size(composition.base), self._detail
        noise = None if self._memory is None else self._memory.noise
        change = None if detail is None else detail.change(small)
        if detail is None or change is None or change > CUT_CHANGE:
            self._memory = Memory(composition.base, small, noise)
            return Painted(*self._gauge.plain("base", composition, facts), 0)
        picture = carried(detail, composition)
        self._memory = Memory(picture, small, noise)
        doubt = self._gauge.carried(picture, composition, facts, detail.uncertainty, detail.base)
        return Painted(picture, doubt, 0, carried=True)

    def _unfinished(self, composition: Composition) -> Job | None:
        """What was begun before and is still of this scene."""
        job = self._job
        if job is None or job.small.shape != half_size(composition.base).shape:
            return None
        change = float(np.mean(cv2.absdiff(half_size(composition.base), job.small)))
        return job if change <= CUT_CHANGE else None

    def _begun(self, composition: Composition, facts: FrameFacts, steps: int) -> Job:
        """A run of the bridge on one frame, at its beginning."""
        settings, memory, small = self._settings, self._memory, half_size(composition.base)
        if memory is not None and change_since(memory, small) > CUT_CHANGE:
            memory = None
        if memory is not None and settings.moving:
            memory = moved(memory, motion_since(memory, small))
        conditions = self._conditions(composition, facts, memory)
        noise = eps = self._noise(conditions, facts, memory)
        sent_noise = known_noise(composition, conditions.base)
        if sent_noise is not None:
            u = bridge.noisy_enough(conditions.unreliability, sent_noise)
            conditions, eps = conditions._replace(unreliability=u), bridge.topped_up(noise, u, sent_noise)
        times, known = self._reused(conditions, steps)
        run = bridge_parts(
            self._model, conditions, times, facts, self._correction, noise=eps, known=known,
            temporal_guidance=settings.temporal_guidance if memory is not None else 1.0,
        )  # fmt: skip
        return Job(composition, facts, small, conditions.base, conditions.trust, times, noise, run)

    def _reused(self, conditions: Conditions, steps: int) -> tuple[tuple[float, ...], Tensor | None]:
        """Times of the network calls, and what an earlier run is taken to have predicted before the first of them."""
        full = bridge.schedule(steps)
        change = None
        if self._settings.reuse and steps > 1 and self._path is not None:
            change = self._path.change(conditions.base)
        if self._path is None or change is None or change > CUT_CHANGE:
            return full, None
        times = bridge.schedule(steps, bridge.switch_time(change, float(conditions.unreliability.mean())))
        return (full, None) if times == full else (times, self._path.before(times[0], conditions.base))

    def _painted(self, job: Job, sampled: bridge.Sampled) -> Painted:
        """What a job has come to, as a picture; it is over, and what it leaves behind is remembered."""
        picture, taken_back = unpack(to_samples(sampled.prediction.x)[0].cpu().numpy()), 0.0
        composition, facts, head = job.composition, job.facts, expected_by(sampled.prediction.log_variance)
        if self._settings.safety:
            parts, doubt = (composition.base, composition.guide), doubt_of(head, composition.noise)
            picture, taken_back = take_back(picture, *parts, doubt, facts.guide_scale)
        override = overridden(sampled.prediction.gate, job.trust)
        uncertainty = self._gauge.network(picture, composition, facts, head, override)
        self._job, self._memory = None, Memory(picture, job.small, job.noise)
        self._detail = Detail(composition.base, job.small, picture, uncertainty)
        if self._settings.reuse and job.times[0] == 1.0:
            self._path = Path.of(job.base, job.times, sampled.path)
        return Painted(picture, uncertainty, sampled.steps_done, taken_back=taken_back)

    def _conditions(self, composition: Composition, facts: FrameFacts, memory: Memory | None) -> Conditions:
        """What the network is shown, as far as the settings let it."""
        settings = self._settings
        composition = replace(composition, labels=self._label_map(composition))
        observation = observe(composition, facts, memory.shown if memory and settings.previous else None)
        moved_over = Observation(*(part.to(self._device) for part in observation))
        conditions = assemble(coarser(moved_over, settings.structure_level), self._dtype)
        if settings.start == "noise":
            full = torch.ones_like(conditions.unreliability)
            conditions = conditions._replace(unreliability=full)
        return conditions

    def _label_map(self, composition: Composition) -> NDArray[np.uint8]:
        """As sent, or nothing, or what the base picture shows: the small semantic layer is found before the picture is
        painted from it (SemanticGen)."""
        if self._settings.labels == "none":
            return np.zeros_like(composition.labels)
        if self._labels is None or composition.labels.any():
            return composition.labels
        return self._labels.logits(composition.base).argmax(0).numpy().astype(np.uint8)

    def _noise(self, conditions: Conditions, facts: FrameFacts, memory: Memory | None) -> Tensor:
        """The noise of this picture: in part the last one's, so that what it becomes stays where it is."""
        share, kept = self._settings.shared_noise, None if memory is None else memory.noise
        if kept is None or kept.shape != conditions.base.shape:
            return bridge.noise_like(conditions.base, self._seed, facts.slot if share < 1 else 0)
        if share >= 1:
            return kept
        return bridge.blended_noise(kept, bridge.noise_like(conditions.base, self._seed, facts.slot), share)


def expected_by(log_variance: Tensor) -> Cells:
    """[1,1,H/8,W/8] log variance -> sample steps that the network expects to be wrong by."""
    return cast(Cells, torch.exp(0.5 * log_variance[0, 0].float()).mul_(UNITS).cpu().numpy())


def overridden(gate: Tensor, trust: Tensor) -> Cells:
    """How far the gate moves the share of the warped anchor, 0..1, [H/8,W/8]; one luma phase tells as much as all."""
    return cast(Cells, F.avg_pool2d((gate - trust)[:, :1].abs(), 4)[0, 0].float().cpu().numpy())


def _estimator_of(weights: LoadedWeights, name: str, settings: DecoderSettings) -> Calibrations:
    """The calibration that is stored with the weights, as far as the settings let it."""
    text = weights.metadata.get(CALIBRATION)
    known = Calibrations.shipped()
    return known if text is None or settings.uncertainty == "network" else known.joined(parsed(text, name))
