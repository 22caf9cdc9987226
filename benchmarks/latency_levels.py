"""The ladder's part of `semcast bench latency`: every level on scenes that the real sender made, at any size.

full path                  from the decoded state to the picture, as the receiver goes it
network alone              the network's calls, in the backend that the settings name
network alone, BACKEND     the same with another one that runs here; the backends take turns, so compare these rows
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Self, get_args

import torch

from benchmarks.files import open_input, open_sender
from common.clock import Clock
from common.config import Config, Size
from common.errors import ConfigError
from common.residual import Residual
from common.state import SceneState, compose
from receiver.chain import SceneDecoder
from receiver.decoder.backends import BackendName, Network, open_network
from receiver.decoder.conditions import Conditions, FrameFacts, Observation, assemble, observe
from receiver.decoder.loading import pick_device
from receiver.decoder.model import TinyBridge
from receiver.decoder.synth import LEVELS, BridgeSynthesizer

WARM_UP_RUNS = 2
FULL_PATH, NETWORK_ALONE = "full path", "network alone"
DTYPE = torch.bfloat16

SIZE_FRAMES, SIZE_SCENES = 14, 8
"""Frames sent at a size other than the clip's, and how many of the last become scenes."""

Samples = list[float]
"""Milliseconds."""
SamplesByRow = dict[tuple[str, str | None], Samples]
"""By (stage, level)."""


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """What the receiver knew when it painted one frame."""

    state: SceneState
    residual: Residual | None
    facts: FrameFacts

    @classmethod
    def of(cls, state: SceneState, residual: Residual | None) -> Self:
        """The facts follow from the state."""
        return cls(state, residual, FrameFacts.of(state))


def timed(work: Callable[[], object], clock: Clock, finish: Callable[[], object] = lambda: None) -> float:
    """Milliseconds that `work` takes; `finish` waits for the device and belongs to it."""
    began_s = clock.now_s()
    work()
    finish()
    return (clock.now_s() - began_s) * 1e3


@dataclass(frozen=True, slots=True, eq=False)
class Ladder:
    """What is timed.

    networks : the one that the settings name under "network alone", then every other that runs here
    """

    painter: BridgeSynthesizer
    networks: dict[str, Network]
    device: torch.device
    clock: Clock
    finish: Callable[[], object] = field(init=False)

    def __post_init__(self) -> None:
        wait: Callable[[], object] = torch.cuda.synchronize if self.device.type == "cuda" else lambda: None
        object.__setattr__(self, "finish", wait)

    def time(self, scenes: Sequence[Scene]) -> SamplesByRow:
        """Paint the scenes at each level, as the receiver does, and run the networks by themselves."""
        scenes = [*[scenes[0]] * WARM_UP_RUNS, *scenes]
        samples: SamplesByRow = {}
        self.painter.reset()  # the scenes before were of another size
        _paint(self.painter, scenes[0], "bridge1")  # what is carried over
        for level in LEVELS:
            paints = (partial(_paint, self.painter, scene, level) for scene in scenes)
            samples[FULL_PATH, level] = [timed(paint, self.clock, self.finish) for paint in paints]
        for scene in scenes:
            conditions = _conditions(scene, self.device)
            for steps in (1, 2, 4):
                for stage, network in self.networks.items():
                    if steps > 1 and stage != NETWORK_ALONE:
                        continue  # more steps are as many times as long
                    call = partial(_call, network, conditions, steps)
                    row = samples.setdefault((stage, f"bridge{steps}"), [])
                    row.append(timed(call, self.clock, self.finish))
        return {row: found[WARM_UP_RUNS:] for row, found in samples.items()}


def open_ladder(model: TinyBridge, config: Config, clock: Clock) -> Ladder:
    """`model` is moved to the configured device; ConfigError where the backend named cannot run."""
    settings = config.receiver
    painter = BridgeSynthesizer(
        model,
        device=settings.device,
        seed=config.stream.seed,
        settings=config.decoder.model_copy(update={"sparing": False}),  # what it costs where it is spent
        backend=settings.backend,
    )
    device = pick_device(settings.device)
    networks = {NETWORK_ALONE: open_network(model, settings.backend, device)}
    chosen = "torch" if settings.backend == "auto" else settings.backend
    for name in get_args(BackendName):
        if name not in ("auto", chosen):
            networks.update(_if_it_runs(model, name, device))
    return Ladder(painter, networks, device, clock)


def _if_it_runs(model: TinyBridge, backend: BackendName, device: torch.device) -> dict[str, Network]:
    try:
        return {f"{NETWORK_ALONE}, {backend}": open_network(model, backend, device)}
    except ConfigError:
        return {}


def scenes_at(size: Size, config: Config) -> list[Scene]:
    """Scenes of the built-in clip at this size, from the real sender at the configured rate."""
    stream = config.stream.model_copy(update={"size": size})
    config = config.model_copy(update={"stream": stream})
    decoder, scenes = SceneDecoder(), []
    with open_input(None, config, None) as source:
        sender = open_sender(source, config)
        try:
            for _, frame in zip(range(SIZE_FRAMES), source, strict=False):
                for unit in sender.step(frame).units:
                    decoder.push(unit.data, frame.time_s)
                state = decoder.scene_at(frame.slot)
                if state is not None:
                    scenes.append(Scene.of(state, decoder.residual_of(state)))
        finally:
            sender.close()
    return scenes[-SIZE_SCENES:]


def _paint(painter: BridgeSynthesizer, scene: Scene, level: str) -> None:
    painter.render(compose(scene.state, scene.residual), scene.facts, level, lambda: False)


def _conditions(scene: Scene, device: torch.device) -> Conditions:
    seen = observe(compose(scene.state, scene.residual), scene.facts, None)
    return assemble(Observation(*(part.to(device) for part in seen)), DTYPE)


@torch.inference_mode()
def _call(network: Network, conditions: Conditions, steps: int) -> None:
    embedded, z = network.embed(conditions), conditions.base
    for step in range(steps):
        network(z, z.new_full((1,), 1 - step / steps), conditions, embedded)
