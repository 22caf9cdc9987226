"""Every error this project raises on purpose.

    SemcastError                        shown as one line, exit code 1
     ├── UsageError (ValueError)        the command was wrong, exit code 2
     │    └── ConfigError               a setting is unknown or out of range
     ├── SourceError (OSError)          an input cannot be opened, read or decoded
     ├── SinkError (OSError)            an output cannot be written
     ├── BitstreamError (ValueError)    bytes from a file or the network are malformed
     │    └── ReleaseError              they are from another release of this program
     ├── StateMismatchError (ValueError) a unit builds on a state we do not hold
     ├── CodecError (RuntimeError)      a codec library is missing or refused
     ├── WeightsError (OSError)         model weights are missing or damaged
     └── ChannelError (OSError)         a link cannot be set up or has failed

`BitstreamError` and `StateMismatchError` that come from the network are counted and dropped, never fatal.
Each message says what happened and what to do.
"""

from __future__ import annotations


class SemcastError(Exception):
    """Base of all expected failures; `exit_code` is what the command line returns."""

    exit_code = 1


class UsageError(SemcastError, ValueError):
    """The caller asked for something that makes no sense."""

    exit_code = 2


class ConfigError(UsageError):
    """A setting is unknown, malformed or out of range."""


class SourceError(SemcastError, OSError):
    """A video source cannot be opened or read."""


class SinkError(SemcastError, OSError):
    """An output file cannot be created or written."""


class BitstreamError(SemcastError, ValueError):
    """Malformed bytes from a file or the network."""


class ReleaseError(BitstreamError):
    """Sound bytes that another release of this program wrote: both ends need the same one."""


class StateMismatchError(SemcastError, ValueError):
    """A unit names a base state that this end does not hold."""


class CodecError(SemcastError, RuntimeError):
    """A layer codec is missing, incompatible or refused its input."""


class WeightsError(SemcastError, OSError):
    """Model weights are missing, damaged or of another family."""


class ChannelError(SemcastError, OSError):
    """A link cannot be set up, or broke."""
