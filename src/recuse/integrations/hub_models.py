"""Checkpoints on the Hugging Face hub (extra ``hub``): one file with its card inside."""

from pathlib import Path
from types import ModuleType

from torch import nn

from recuse.errors import ConfigError, DataError
from recuse.models.cards import Card
from recuse.models.checkpoint import SUFFIX, load_checkpoint, read_card

FILENAME = f"model{SUFFIX}"


def pull_checkpoint(
    repository: str, filename: str, *, revision: str | None = None, sha256: str = ""
) -> tuple[nn.Module, Card]:
    """Fetch a checkpoint from the hub and load it; a second call reads the local cache.

    Args:
        repository: ``owner/name``.
        filename: A ``.safetensors`` checkpoint of this program in the repository.
        revision: Branch, tag or commit.
        sha256: Expected digest of the weights; empty to accept the card's own.

    Returns:
        The network in eval mode on the CPU, and its card.

    Raises:
        ConfigError: The extra is not installed.
        DataError: Not to be had, damaged, or weights other than expected.
    """
    hub = _hub()
    try:
        path = Path(hub.hf_hub_download(repository, filename, revision=revision))
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{repository}/{filename} cannot be fetched: {reason}") from error
    model, card = load_checkpoint(path)
    if sha256 and card.sha256 != sha256:
        raise DataError(
            f"{repository}/{filename} holds weights with SHA-256 {card.sha256[:12]}…, expected "
            f"{sha256[:12]}…"
        )
    return model, card


def load_hub(text: str) -> tuple[nn.Module, Card]:
    """A checkpoint of the hub as a command line names it.

    Args:
        text: ``owner/name``, ``owner/name/file.safetensors``, either with ``@revision``.

    Raises:
        ConfigError: Text of another form, or the extra is not installed.
        DataError: See :func:`pull_checkpoint`.
    """
    place, _, revision = text.partition("@")
    owner, _, rest = place.partition("/")
    name, _, filename = rest.partition("/")
    if not owner or not name:
        raise ConfigError(f"hub:{text} must be hub:owner/name or hub:owner/name/file{SUFFIX}")
    return pull_checkpoint(f"{owner}/{name}", filename or FILENAME, revision=revision or None)


def push_checkpoint(path: Path, repository: str, *, filename: str | None = None) -> str:
    """Upload a checkpoint; the hub's own login decides whether it may be written.

    Args:
        path: A checkpoint of this program; it is read first, so no damaged file is uploaded.
        repository: ``owner/name``, which must exist.
        filename: Name in the repository; by default the file's own.

    Returns:
        The digest of the uploaded weights, for :func:`pull_checkpoint`.

    Raises:
        ConfigError: The extra is not installed.
        DataError: A damaged file, or the hub refused it.
    """
    hub = _hub()
    load_checkpoint(path)
    name = filename or path.name
    try:
        hub.upload_file(path_or_fileobj=path, path_in_repo=name, repo_id=repository)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{path} cannot be uploaded to {repository}: {reason}") from error
    return read_card(path).sha256


def _hub() -> ModuleType:
    try:
        import huggingface_hub
    except ImportError as error:
        raise ConfigError(
            f"the hub needs {error.name}; install it with pip install 'recuse[hub]'"
        ) from error
    module: ModuleType = huggingface_hub
    return module
