"""``recuse serve``: a system behind HTTP."""

from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg


def serve(
    system: Annotated[Positional[Path], arg(metavar="SYSTEM")],
    /,
    host: str = "127.0.0.1",
    port: int = 8000,
    workers: int = 1,
    budget_ms: float = 1000.0,
    max_bytes: int = 10_000_000,
    batch: int = 32,
    wait_ms: float = 5.0,
    max_waiting: int = 1024,
) -> None:
    """Answer images over HTTP until SIGTERM: what was taken by then is answered first.

    POST /predict takes one image (its bytes, a multipart field image, or JSON with base64) and
    returns one row. GET /health, GET /metrics for Prometheus, and a page at /.

    Args:
        system: A folder that recuse build wrote.
        host: 127.0.0.1 for this machine alone, 0.0.0.0 or :: for others.
        port: To listen on, 1024 to 65535.
        workers: Processes that compute.
        budget_ms: Milliseconds that may be computed for a request; what is not decided then is
            abstained on.
        max_bytes: Largest request.
        batch: Most images answered together.
        wait_ms: How long a batch waits for more images.
        max_waiting: Requests that may wait at once; more are told to come again (503).
    """
    from recuse.cli.console import console
    from recuse.errors import ConfigError

    try:
        from recuse.serving.server import Serving
        from recuse.serving.server import serve as run
    except ImportError as error:
        if (error.name or "").startswith("recuse"):
            raise
        raise ConfigError(
            f"serving needs {error.name}; install it with pip install 'recuse[serve]'"
        ) from error

    how = Serving(host, port, workers, budget_ms, max_bytes, batch, wait_ms, max_waiting)
    run(system, how, say=lambda s: console.print(f"recuse: {s}", markup=False, soft_wrap=True))
