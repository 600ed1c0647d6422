"""The front of a server: it reads requests, hands images to workers, counts and answers."""

import asyncio
import base64
import io
import time
from collections.abc import Awaitable, Callable
from importlib.resources import files
from typing import Any

import numpy as np
from PIL import Image
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from recuse.errors import DataError
from recuse.serving.incoming import RefusedError, image_bytes
from recuse.serving.metrics import Metrics
from recuse.serving.worker import Asked
from recuse.systems import InputForm

Row = dict[str, Any]
Submit = Callable[[Asked], Awaitable[Row]]


class Front:
    """What is behind each address.

    Args:
        name: Of the system.
        budget: The attacker's, as text.
        form: What the networks take.
        submit: Hands an image to a worker and waits for its row.
        draining: Whether the server is about to stop.
        most_bytes: Of a request.
        most_waiting: Requests that may wait for an answer at once.
        patience_s: Seconds after which a request that no worker answered is given up.
    """

    def __init__(
        self,
        *,
        name: str,
        budget: str,
        form: InputForm,
        submit: Submit,
        draining: Callable[[], bool],
        busy: Callable[[int], None],
        most_bytes: int,
        most_waiting: int,
        patience_s: float,
    ) -> None:
        self.about = {"system": name, "budget": budget}
        self.form, self.submit, self.draining, self.busy = form, submit, draining, busy
        self.most_bytes, self.most_waiting = most_bytes, most_waiting
        self.patience_s, self.metrics, self.waiting = patience_s, Metrics(), 0

    @property
    def routes(self) -> list[Route]:
        """Every address."""
        return [
            Route("/", self.page, methods=["GET"]),
            Route("/health", self.health, methods=["GET"]),
            Route("/metrics", self.counters, methods=["GET"]),
            Route("/predict", self.predict, methods=["POST"]),
            Route("/explain", self.explain, methods=["POST"]),
        ]

    async def page(self, _: Request) -> Response:
        """The page to drop an image on."""
        return HTMLResponse((files("recuse.serving") / "page.html").read_text(encoding="utf-8"))

    async def health(self, _: Request) -> Response:
        """Whether predictions are taken."""
        if self.draining():
            return JSONResponse({"status": "draining", **self.about}, 503)
        return JSONResponse({"status": "ok", **self.about})

    async def counters(self, _: Request) -> Response:
        """The metrics."""
        return PlainTextResponse(self.metrics.text(), media_type="text/plain; version=0.0.4")

    async def predict(self, request: Request) -> Response:
        """One image, one row; counted whatever comes of it."""
        began = time.monotonic()
        self.busy(1)
        try:
            row = await self._row(request, explain=False)
        except RefusedError as refused:
            self.metrics.note(refused.status, time.monotonic() - began)
            return JSONResponse({"error": refused.sentence}, refused.status)
        except Exception:
            self.metrics.note(500, time.monotonic() - began)
            raise
        finally:
            self.busy(-1)
        self.metrics.note(200, time.monotonic() - began, row)
        return JSONResponse(row)

    async def explain(self, request: Request) -> Response:
        """A row with the nearest other answer and its picture; not counted as a prediction."""
        self.busy(1)
        try:
            row = await self._row(request, explain=True)
        except RefusedError as refused:
            return JSONResponse({"error": refused.sentence}, refused.status)
        finally:
            self.busy(-1)
        row["explanation"]["picture"] = _data_url(row["explanation"]["picture"])
        return JSONResponse(row)

    async def _row(self, request: Request, *, explain: bool) -> Row:
        if self.draining():
            raise RefusedError(503, "the server is about to stop and takes no more requests")
        data = await image_bytes(request, self.most_bytes)
        if self.waiting >= self.most_waiting:
            raise RefusedError(
                503, f"{self.waiting} requests are waiting already; ask again in a moment"
            )
        self.waiting += 1
        try:
            image = await run_in_threadpool(self._image, data)
            row = await asyncio.wait_for(self.submit(Asked(image, explain)), self.patience_s)
        except DataError as error:
            raise RefusedError(400, str(error)) from error
        except TimeoutError as error:
            raise RefusedError(503, "no worker answered in time; ask again") from error
        finally:
            self.waiting -= 1
        if row.get("error") is not None:
            raise RefusedError(500, str(row["error"]))
        return row

    def _image(self, data: bytes) -> np.ndarray:
        pixels: np.ndarray = self.form.batch(data)[0].numpy()
        return pixels


def _data_url(pixels: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels).save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


__all__ = ["Front"]
