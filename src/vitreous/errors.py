"""Every error that Vitreous raises on purpose.

    VitreousError
    ├── UserError            exit 2: something the user gave is wrong; nothing was lost
    │   ├── ShapeError       a size that the geometry does not allow
    │   ├── PatternError     a line of the pattern language that cannot be built
    │   ├── ConfigError      a setting that is unknown, of the wrong kind, or out of range
    │   ├── DataError        a data source that cannot be read as labelled images
    │   │   └── DecodeError  one image that cannot be read
    │   └── RunError         a run folder that is missing, taken, unfinished or damaged
    ├── VerificationError    exit 1: what was made does not do what its original does; it is not kept
    ├── MachineError         exit 3: the machine or the run failed (disk, memory, divergence)
    ├── Interrupted          exit 130 / 143: stopped by a signal, after saving
    └── EndedElsewhere       another process of the same job ended it, and told why

The message of each says what was seen, what was wanted, and the way out, in one or two lines.
"""


class VitreousError(Exception):
    """The root of the tree; catch this to catch everything that Vitreous raises on purpose."""

    exit_code = 3


class UserError(VitreousError):
    """Something that the user gave is wrong; nothing was lost and nothing is half written."""

    exit_code = 2


class ShapeError(UserError):
    """A size that the geometry does not allow."""


class PatternError(UserError):
    """A line of the pattern language that cannot be built; the message points at the word."""


class ConfigError(UserError):
    """A setting that is unknown, of the wrong kind, or out of range."""


class DataError(UserError):
    """A data source that cannot be read as labelled images."""


class DecodeError(DataError):
    """One image that cannot be read; the message is the reason, without the file's name."""


class RunError(UserError):
    """A run folder that is missing, taken, unfinished or damaged."""


class VerificationError(VitreousError):
    """An artefact that was made, and does not give what the run gives; it is not kept."""

    exit_code = 1


class MachineError(VitreousError):
    """The machine or the run failed: no space, no memory, numbers that are no longer finite."""


class Interrupted(VitreousError):
    """A signal stopped the work after everything was saved; ``exit_code`` is 128 + the signal."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number


class EndedElsewhere(VitreousError):
    """Another process of the job failed and has told why; this one ends with the same status, and says nothing."""

    def __init__(self, exit_code: int) -> None:
        super().__init__("")
        self.exit_code = exit_code
