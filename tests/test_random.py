import pytest
import torch

from recuse.random import SampleNoise, generator, stable_seed

IDS = tuple(f"set/test/{i}" for i in range(6))


@pytest.mark.parametrize("kind", ["normal", "uniform"])
def test_a_row_depends_only_on_its_id(kind: str) -> None:
    noise = SampleNoise(3, IDS, "start")
    whole = getattr(noise, kind)(torch.empty(6, 2, 3))
    part = getattr(noise.take([4, 1]), kind)(torch.empty(2, 2, 3))
    assert torch.equal(part, whole[[4, 1]])


@pytest.mark.parametrize("shape", [(6,), (6, 3), (6, 3, 32, 32), (0, 2)])
def test_a_row_is_what_a_generator_of_its_own_draws(shape: tuple[int, ...]) -> None:
    noise = SampleNoise(3, IDS[: shape[0]], "start")
    like = torch.empty(shape, dtype=torch.float64)
    for kind, draw in ((noise.normal, torch.randn), (noise.uniform, torch.rand)):
        rows = [draw(shape[1:], generator=generator(3, "start", i)) for i in noise.ids]
        found = kind(like)
        assert found.dtype == like.dtype
        assert found.shape == shape
        assert all(map(torch.equal, found.float(), rows))


def test_streams_seeds_and_ids_are_independent() -> None:
    noise = SampleNoise(3, IDS, "start")
    like = torch.empty(6, 1000)
    draws = [
        noise.normal(like),
        noise.substream(1).normal(like),
        SampleNoise(4, IDS, "start").normal(like),
    ]
    flat = torch.cat(draws)
    correlation = torch.corrcoef(flat) - torch.eye(len(flat))
    assert correlation.abs().max() < 0.15


def test_the_global_generator_is_left_alone() -> None:
    before = torch.get_rng_state()
    SampleNoise(0, IDS).normal(torch.empty(6, 2))
    assert torch.equal(before, torch.get_rng_state())


def test_one_id_per_row() -> None:
    with pytest.raises(ValueError, match="one id per row"):
        SampleNoise(0, IDS).normal(torch.empty(5, 2))


def test_stable_seed_is_stable() -> None:
    assert stable_seed(0, "a") == 1481238324449861677
    assert stable_seed(0, "a") != stable_seed("0a")
