"""The errors a caller can meet; the command line prints their sentence and exits with code 2."""


class RecuseError(Exception):
    """A problem with what the caller asked for: one sentence that says what, where, what to do."""


class ConfigError(RecuseError):
    """An option, recipe, threat or combination of settings that cannot be run as given."""


class DataError(RecuseError):
    """Data or model files that are missing, damaged, or not what they claim to be."""


class RecordError(RecuseError):
    """Records that are incomplete, contradictory or not comparable."""


class OutageError(RecordError):
    """A store that did not answer for long; what it holds stays, and the same call goes on."""


class CertificationError(RecuseError):
    """A certificate that cannot be computed with the given noise, level or sample budget."""


class PausedError(RecuseError):
    """Work that was to stop for now; what is done is kept, and the same call goes on."""


class TrainingError(RecuseError):
    """Training that cannot go on, for example because the loss is not finite."""


class EngineError(RecuseError):
    """Workers that cannot be had, or that lost a piece of the work again and again."""
