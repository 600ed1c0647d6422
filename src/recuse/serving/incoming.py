"""What comes in over HTTP, made into one image or refused with the right status."""

import base64
import binascii
import json
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

from starlette.formparsers import MultiPartException
from starlette.requests import ClientDisconnect, Request

FIELD = "image"


@dataclass(frozen=True)
class RefusedError(Exception):
    """A request that gets no answer of the system.

    Attributes:
        status: HTTP status.
        sentence: What was wrong with it.
    """

    status: int
    sentence: str


async def image_bytes(request: Request, largest: int) -> bytes:
    """The encoded image of a request: its body, a multipart field, or base64 in JSON.

    Raises:
        RefusedError: Too large (413), another type (415), or no image in it (400).
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind.startswith("image/"):
        return await _body(request, largest)
    if kind == "application/json":
        return _from_json(await _body(request, 2 * largest), largest)
    if kind == "multipart/form-data":
        return await _from_form(request, largest)
    raise RefusedError(
        415,
        f"content type {kind or 'missing'!r} is not taken; send the image itself (image/*), a "
        f"multipart field {FIELD!r}, or JSON with {FIELD!r} in base64",
    )


async def _body(request: Request, largest: int) -> bytes:
    """The body, not read further than is allowed."""
    said = request.headers.get("content-length", "0")
    if said.isdecimal() and int(said) > largest:
        raise _too_large(largest)
    parts, size = [], 0
    try:
        async for part in request.stream():
            size += len(part)
            if size > largest:
                raise _too_large(largest)
            parts.append(part)
    except ClientDisconnect as error:
        raise RefusedError(400, "the connection ended before the image did") from error
    if not size:
        raise RefusedError(400, "the request has no body; send an image")
    return b"".join(parts)


def _too_large(largest: int) -> RefusedError:
    return RefusedError(413, f"the request is larger than the {largest:,} bytes that are taken")


def _from_json(body: bytes, largest: int) -> bytes:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RefusedError(400, "the body is not JSON") from error
    text = found.get(FIELD) if isinstance(found, Mapping) else None
    if not isinstance(text, str):
        raise RefusedError(400, f"the JSON has no text {FIELD!r}; put the image there in base64")
    text = text.partition("base64,")[2] if text.startswith("data:") else text
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise RefusedError(400, f"{FIELD!r} is not base64") from error
    if len(data) > largest:
        raise _too_large(largest)
    return data


async def _from_form(request: Request, largest: int) -> bytes:
    body = await _body(request, largest + (1 << 16))
    again = Request(request.scope, _once(body))
    try:
        async with again.form(max_files=4, max_fields=16, max_part_size=largest) as form:
            found = form.getlist(FIELD)
            if len(found) > 1:
                raise RefusedError(400, f"the form has {len(found)} {FIELD!r}; send one a request")
            field = found[0] if found else None
            if field is None or isinstance(field, str):
                raise RefusedError(400, f"the form has no file {FIELD!r}")
            data = await field.read()
    except (MultiPartException, ValueError, KeyError) as error:
        raise RefusedError(400, "the multipart form cannot be read") from error
    except Exception as error:
        if type(error).__name__ != "HTTPException":  # how the parser tells of a damaged form
            raise
        raise RefusedError(400, "the multipart form cannot be read") from error
    if len(data) > largest:
        raise _too_large(largest)
    return data


def _once(body: bytes) -> Callable[[], Awaitable[MutableMapping[str, Any]]]:
    """A channel that hands out a body that was read already."""

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    return receive


__all__ = ["FIELD", "RefusedError", "image_bytes"]
