import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

Writer = Callable[..., Path]


def png(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def random_pixels(n: int, *shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, *shape), dtype=np.uint8)


@pytest.fixture
def write_parquet(tmp_path: Path) -> Writer:
    """Write a small parquet file with the Hugging Face image schema."""

    def write(
        blobs: list[bytes | None],
        labels: list[int],
        *,
        file: str = "images.parquet",
        image: str = "img",
        label: str = "label",
        names: list[str] | None = None,
        **columns: list[object],
    ) -> Path:
        rows = [{"bytes": blob, "path": f"{i}.png"} for i, blob in enumerate(blobs)]
        frame = pl.DataFrame(
            {image: rows, label: labels, **columns},
            schema_overrides={image: pl.Struct({"bytes": pl.Binary, "path": pl.String})},
        )
        features = {"info": {"features": {label: {"names": names, "_type": "ClassLabel"}}}}
        metadata = {"huggingface": json.dumps(features)} if names else None
        path = tmp_path / file
        frame.write_parquet(path, metadata=metadata)
        return path

    return write
