"""Keyed noise: a function of (seed, stream, row, draw), and distributed as it says."""

import torch
from scipy import stats

from reverie.core.noise import KeyedNoise, mix


def test_mix_is_splitmix64() -> None:
    # The first outputs of SplitMix64 for seed 0, from the reference program by Vigna (prng.di.unimi.it/splitmix64.c).
    expected = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    gamma = 0x9E3779B97F4A7C15
    counters = [(gamma * (i + 1)) % 2**64 for i in range(3)]
    signed = torch.tensor([c - 2**64 if c >= 2**63 else c for c in counters])
    assert [int(v) % 2**64 for v in mix(signed)] == expected


def test_rows_do_not_depend_on_the_batch() -> None:
    whole = KeyedNoise(3, torch.arange(10), "a")
    parts = [KeyedNoise(3, torch.arange(4), "a"), KeyedNoise(3, torch.arange(4, 10), "a")]
    for draw in ("normal", "uniform"):
        expected = getattr(whole, draw)(2, 5)
        assert torch.equal(expected, torch.cat([getattr(part, draw)(2, 5) for part in parts]))
    left, right = whole.split(3, 7)
    follow = KeyedNoise(3, torch.arange(10), "a")
    follow.normal(2, 5), follow.uniform(2, 5)
    assert torch.equal(follow.normal(3), torch.cat([left.normal(3), right.normal(3)]))


def test_seeds_streams_rows_and_draws_differ() -> None:
    ids = torch.arange(64)
    base = KeyedNoise(0, ids)
    first = base.normal(64)
    others = [
        base.normal(64),
        KeyedNoise(1, ids).normal(64),
        KeyedNoise(0, ids, "x").normal(64),
        base.fork("y").normal(64),
    ]
    for other in others:
        correlation = torch.corrcoef(torch.stack([first.flatten(), other.flatten()]))[0, 1]
        assert abs(float(correlation)) < 4 / 64  # 4 standard errors of 4,096 pairs
    assert torch.corrcoef(first).fill_diagonal_(0).abs().max() < 5 / 8  # rows of 64


def test_distributions() -> None:
    noise = KeyedNoise(7, torch.arange(1000))
    x = noise.normal(99).flatten().double()  # an odd count: the last pair is cut
    assert stats.kstest(x.numpy(), "norm").pvalue > 1e-3
    u = noise.uniform(100).flatten()
    assert 0 <= float(u.min()) <= float(u.max()) < 1
    assert stats.kstest(u.double().numpy(), "uniform").pvalue > 1e-3
    counts = torch.bincount(noise.integers(7, 100).flatten(), minlength=7)
    assert stats.chisquare(counts.numpy()).pvalue > 1e-3
