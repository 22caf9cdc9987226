"""What goes wrong in the field, and how it is done to real programs (faults_run.py): each fault is a function here.

What nothing outside can do to a program is built into it when it starts (faulty.py); which of them, the table says.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.live.rig import LINK, Rig, pause
from common.errors import ChannelError, UsageError

AFTER_S = 4.0
"""Recorded after the picture is back."""
LONG_AFTER_S = 20.0
"""The same where ends still have to find out that a connection is gone for good."""
PATIENCE_S = 60.0
JUMP_S = 5.0
DISK = "192k"


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that goes wrong while a link stands.

    act : does it; returns when it was over, from which on the recovery counts
    meaning : what is done, for the table
    most_s : recovery within this is good; None where nothing has to recover
    built_in : by end, of `benchmarks.live.faulty`; receiver_options : of `semcast receive`
    weights : of its decoder, written to a folder; None are those that the project ships
    disk : size of the disk that is recorded to, empty for that of the machine
    recovered : what counts as recovery besides a new picture: the level that paints it
    after_s : watched after the picture is back; long : only with --all
    """

    name: str
    meaning: str
    act: Callable[[Rig], float]
    most_s: float | None = 2.0
    built_in: Mapping[str, str] = field(default_factory=dict)
    receiver_options: tuple[str, ...] = ("--steps", "0")
    weights: Callable[[Path], Path] | None = None
    disk: str = ""
    recovered: str = ""
    after_s: float = AFTER_S
    long: bool = False


@dataclass(frozen=True, slots=True)
class Refusal:
    """Something that a receiver must not even start with. weights : writes them to a folder"""

    name: str
    meaning: str
    weights: Callable[[Path], Path]


# --- faults -------------------------------------------------------------------------------------------------------


def kill_sender(rig: Rig) -> float:
    """Another one is started a second later."""
    os.kill(rig.sender.pid, signal.SIGKILL)
    pause(1.0)
    over_s = rig.now_s()
    rig.send()
    return over_s


def kill_receiver(rig: Rig) -> float:
    """Another one is started a second later; who watched opens its page."""
    os.kill(rig.receiver.pid, signal.SIGKILL)
    pause(1.0)
    over_s = rig.now_s()
    rig.receive()
    return over_s


def suspend_sender(rig: Rig) -> float:
    """As when a laptop is closed: to the program all clocks jump."""
    return _suspend(rig, rig.sender.pid)


def suspend_receiver(rig: Rig) -> float:
    """Likewise."""
    return _suspend(rig, rig.receiver.pid)


def jump_clocks(rig: Rig) -> float:
    """Both wall clocks are set an hour ahead, and back."""
    at_s = rig.now_s()
    for _ in range(2):
        for end in (rig.sender, rig.receiver):
            os.kill(end.pid, signal.SIGUSR1)
        pause(JUMP_S)
    return at_s


def fill_disk(rig: Rig) -> float:
    """The disk that is recorded to is small, and fills up."""
    at_s = rig.now_s()
    rig.wait_for(lambda event: event.kind == "notice", at_s, PATIENCE_S)
    return rig.now_s()


def watch_without_reading(rig: Rig) -> float:
    """A second browser that takes nothing any more."""
    at_s = rig.now_s()
    rig.watch(rig.page(), "--deaf")
    pause(12.0)
    return at_s


def cut(seconds: float) -> Callable[[Rig], float]:
    """Nothing crosses for so long."""

    def act(rig: Rig) -> float:
        rig.hosts.relay.cut(seconds)
        pause(seconds)
        return rig.now_s()

    return act


def disorder(rig: Rig) -> float:
    """For some seconds."""
    at_s = rig.now_s()
    rig.hosts.relay.change(f"{LINK},reorder=0.3,duplicate=0.3")
    pause(JUMP_S)
    rig.hosts.relay.change(LINK)
    return at_s


def corrupt(rig: Rig) -> float:
    """For some seconds."""
    os.kill(rig.sender.pid, signal.SIGUSR1)
    pause(JUMP_S)
    os.kill(rig.sender.pid, signal.SIGUSR1)
    return rig.now_s()


def lose_memory(rig: Rig) -> float:
    """For some seconds."""
    os.kill(rig.receiver.pid, signal.SIGUSR1)
    pause(JUMP_S)
    os.kill(rig.receiver.pid, signal.SIGUSR1)
    return rig.now_s()


def second_sender(rig: Rig) -> float:
    """It is refused, and the first goes on."""
    at_s = rig.now_s()
    if rig.send("sender2").ended(PATIENCE_S) != 1:
        raise ChannelError("the second sender was not refused")
    return at_s


def change_release(rig: Rig) -> float:
    """A sender of the next release takes the place of the one that was there; then that comes back."""
    rig.sender.end()
    rig.faults["send"] = "version"
    rig.send("newer").wait_for("err", lambda line: line.endswith(": connected"))
    pause(3.0)
    rig.sender.end()
    del rig.faults["send"]
    over_s = rig.now_s()
    rig.send("sender3")
    return over_s


def nothing_more(rig: Rig) -> float:
    """What is wrong is so from the beginning."""
    return rig.now_s()


def _suspend(rig: Rig, pid: int) -> float:
    os.kill(pid, signal.SIGSTOP)
    pause(JUMP_S)
    over_s = rig.now_s()
    os.kill(pid, signal.SIGCONT)
    return over_s


# --- weights ------------------------------------------------------------------------------------------------------


def changed_weights(folder: Path) -> Path:
    """The shipped decoder with some of its numbers changed a little: of the same family, with another hash."""
    path = folder / "other.safetensors"
    data = bytearray(_shipped("tiny").read_bytes())
    for at in range(len(data) // 2, len(data), 4096):
        data[at // 4 * 4] ^= 1  # the last bit of a mantissa
    path.write_bytes(data)
    return path


def foreign_weights(folder: Path) -> Path:
    """Those of another network."""
    return Path(shutil.copy(_shipped("labels"), folder / "other.safetensors"))


def damaged_weights(folder: Path) -> Path:
    """Only the beginning of a file."""
    path = folder / "damaged.safetensors"
    path.write_bytes(_shipped("tiny").read_bytes()[:10_000])
    return path


def _shipped(name: str) -> Path:
    from common.weights import ASSETS

    return ASSETS / f"{name}.safetensors"


# --- all of them --------------------------------------------------------------------------------------------------


FAULTS: tuple[Fault | Refusal, ...] = (
    Fault("kill -9 of the sender", "started again after 1 s", kill_sender, 12.0, after_s=LONG_AFTER_S),
    Fault("kill -9 of the receiver", "started again after 1 s, page opened again", kill_receiver, 12.0,
        after_s=LONG_AFTER_S,
    ),
    Fault("sender suspended", "5 s, SIGSTOP: all its clocks jump", suspend_sender),
    Fault("receiver suspended", "5 s, SIGSTOP: all its clocks jump", suspend_receiver),
    Fault(
        "wall clocks jump", "both ends, an hour ahead and back; built in", jump_clocks,
        built_in={"send": "clock", "receive": "clock"},
    ),
    Fault("full disk", f"a recording on a disk of {DISK}B", fill_disk, disk=DISK),
    Fault("slow consumer", "a second browser that reads nothing for 12 s", watch_without_reading),
    Fault("cut of 0.5 s", "nothing crosses, either way", cut(0.5)),
    Fault("cut of 2 s", "nothing crosses, either way", cut(2.0)),
    Fault("cut of 10 s", "nothing crosses, either way", cut(10.0), 5.0),
    Fault("cut of 60 s", "nothing crosses, either way", cut(60.0), 30.0, long=True),
    Fault("disorder", "30 % of the packets held back, 30 % twice, 5 s", disorder),
    Fault(
        "wrong bytes, right CRC", "1 % of the datagrams, 5 s; built in", corrupt, built_in={"send": "corrupt"}
    ),
    Fault(
        "other weights at the receiver", "not those that the project ships", nothing_more, None,
        weights=changed_weights,
    ),
    Fault("version skew", "a sender of the next stream version, then of this one", change_release, 12.0),
    Fault(
        "GPU out of memory", "simulated, 5 s; built in", lose_memory, 15.0, {"receive": "memory"},
        ("--steps", "1"), recovered="bridge1",
    ),
    Fault("two senders in one room", "the second one comes later", second_sender),
    Refusal("wrong weights", "weights of another network; it does not start", foreign_weights),
    Refusal("wrong weights", "a damaged file; it does not start", damaged_weights),
)  # fmt: skip


def chosen(only: Sequence[str], everything: bool) -> list[Fault | Refusal]:
    """The faults of these names, all but the long ones without any. Raises UsageError."""
    known = list(dict.fromkeys(fault.name for fault in FAULTS))
    unknown = [name for name in only if name not in known]
    if unknown:
        raise UsageError(f"there is no fault {unknown[0]!r}: there are {'; '.join(known)}")
    if only:
        return [fault for name in only for fault in FAULTS if fault.name == name]
    return [fault for fault in FAULTS if everything or isinstance(fault, Refusal) or not fault.long]
