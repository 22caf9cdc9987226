"""Does the gate see what it is for? Known regressions, put into the running program one after another.

Each is a context manager that puts one into the real code path; benchmarks/gate/trials.py measures what the gate makes of
them (`semcast gate --mutations`).
"""

from __future__ import annotations

import ctypes
import functools
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

import numpy as np

import common.fusion
import sender.pipeline
from benchmarks.gate.model import Part
from common.errors import UsageError
from receiver.chain import SceneDecoder
from receiver.decoder.synth import BridgeSynthesizer
from receiver.pipeline import ReceiverSession
from sender.pipeline import SenderSession
from sender.side import SideInfo
from sender.svtav1 import SvtAv1Encoder

SLOWER = 1.10
DEARER = 1.02
LEAK_BYTES = round((1 << 20) / (60 * 25))
"""A picture's part of 1 MiB a minute at 25 pictures a second."""


@dataclass(frozen=True, slots=True)
class Mutation:
    """One regression. part : of the gate that has to find it; apply : puts it in for as long as the block runs"""

    name: str
    part: Part
    apply: Callable[[], AbstractContextManager[None]]


@contextmanager
def _wrapped(owner: type, method: str, wrapper: Callable[..., Any]) -> Iterator[None]:
    """`owner.method` calls `wrapper(original, self, ...)` instead."""
    original = getattr(owner, method)

    @functools.wraps(original)
    def call(self: object, *args: Any, **kwargs: Any) -> Any:
        return wrapper(original, self, *args, **kwargs)

    with patch.object(owner, method, call):
        yield


def _slowly(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """The same, and then processor time for nothing."""
    began_s = time.process_time()
    result = original(*args, **kwargs)
    until_s = began_s + SLOWER * (time.process_time() - began_s)
    while time.process_time() < until_s:
        pass
    return result


def _coarser(
    original: Callable[..., Any], encoder: object, picture: object, qp: int, key: bool = False
) -> Any:
    return original(encoder, picture, min(63, qp + 1), key)


def _generously(original: Callable[..., Any], session: SenderSession, *args: Any) -> Any:
    session.target = replace(session.target, rate_bps=session.target.rate_bps * DEARER)
    return original(session, *args)


def _nothing(original: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
    return None


@contextmanager
def _without_residual() -> Iterator[None]:
    with patch.object(sender.pipeline, "choose_residual", lambda *args: None):
        yield


@contextmanager
def _other_filter() -> Iterator[None]:
    """One tap of the guide's upsampling one sixty-fourth up, its neighbour down: no eye would see it."""
    with patch.object(common.fusion, "NEAR", np.array([-7, 57, 16, -2], np.int16)):
        yield


@contextmanager
def _leak_of_objects() -> Iterator[None]:
    kept: list[bytes] = []

    def leak(original: Callable[..., Any], *args: Any) -> Any:
        kept.append(bytes(LEAK_BYTES))
        return original(*args)

    with _wrapped(ReceiverSession, "paint", leak):
        yield


@contextmanager
def _leak_of_a_library() -> Iterator[None]:
    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, (ctypes.c_size_t,)

    def leak(original: Callable[..., Any], *args: Any) -> Any:
        ctypes.memset(libc.malloc(LEAK_BYTES), 1, LEAK_BYTES)
        return original(*args)

    with _wrapped(SenderSession, "step", leak):
        yield


MUTATIONS = (
    Mutation("network 10 % slower", Part.SPEED, lambda: _wrapped(BridgeSynthesizer, "render", _slowly)),
    Mutation("decoding 10 % slower", Part.SPEED, lambda: _wrapped(SceneDecoder, "push", _slowly)),
    Mutation("sender 10 % slower", Part.SPEED, lambda: _wrapped(SenderSession, "step", _slowly)),
    Mutation("quantiser one too coarse", Part.CASES, lambda: _wrapped(SvtAv1Encoder, "encode", _coarser)),
    Mutation("2 % more rate", Part.CASES, lambda: _wrapped(SenderSession, "__post_init__", _generously)),
    Mutation("residual dropped", Part.CASES, _without_residual),
    Mutation("label maps dropped", Part.CASES, lambda: _wrapped(SideInfo, "labels", _nothing)),
    Mutation("motion dropped", Part.CASES, lambda: _wrapped(SideInfo, "motion", _nothing)),
    Mutation("one filter tap of the base picture off by 1/64", Part.CASES, _other_filter),
    Mutation("1 MiB a minute leaked in Python", Part.MEMORY, _leak_of_objects),
    Mutation("1 MiB a minute leaked in C", Part.MEMORY, _leak_of_a_library),
)


def mutation_named(name: str) -> Mutation:
    """UsageError for one that does not exist."""
    for mutation in MUTATIONS:
        if mutation.name == name:
            return mutation
    raise UsageError(f"mutation {name!r} is not known: there are {', '.join(m.name for m in MUTATIONS)}")
