"""Each method against a second reading of its published formula in numpy, and against the errors known of it.

The readings share nothing with the package: Hadamard matrices are SciPy's, and singular vectors are numpy's. A layer
has inputs (512, 64), of which two channels are 30 and 20 times as large, and a weight (64, 64) of standard deviation
0.02. An error is ||Y - Y_q|| / ||Y||. The known errors are of an independent implementation on one such draw. Our own
draws differ by 15 % or so, so that means over `DRAWS` of them are compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import Tensor, nn

from reproduce.metrics.kurtosis import kurtosis
from reproduce.quantise import lab
from reproduce.quantise.methods import adadim, block_floating_point, llm_int8, quarot, smoothquant, splitquant, svdquant
from reproduce.quantise.quantisers import Scheme

Array = np.ndarray
DRAWS = 8
KNOWN = 0.15
"""How far the mean over our draws may be from the known error, as a share of it."""


def numbers(seed: int) -> tuple[Array, Array]:
    """Inputs and weight of one draw."""
    drawn = np.random.default_rng(seed)
    x, w = drawn.normal(size=(512, 64)), 0.02 * drawn.normal(size=(64, 64))
    x[:, 3] *= 30
    x[:, 40] *= 20
    return x, w


def draws() -> Iterator[tuple[Array, Array]]:
    return (numbers(seed) for seed in range(DRAWS))


def tensor(x: Array) -> Tensor:
    return torch.tensor(x, dtype=torch.float32)


def symmetric(x: Array, bits: int, rows: int | None = None) -> Array:
    """Q(x) with s = max |x| / (2^(b-1) - 1): for the whole of `x`, or for each run of `rows` neighbours."""
    top, blocks = 2 ** (bits - 1) - 1, x.reshape(-1, rows or x.size)
    scale = np.abs(blocks).max(1, keepdims=True) / top
    return (scale * np.clip(np.round(blocks / scale), -top - 1, top)).reshape(x.shape)


def asymmetric(x: Array, bits: int, rows: int) -> Array:
    """Q(x) on the levels 0 to 2^b - 1 of a range that contains 0, for each run of `rows` neighbours."""
    blocks, top = x.reshape(-1, rows), 2**bits - 1
    low, high = np.minimum(blocks.min(1, keepdims=True), 0), np.maximum(blocks.max(1, keepdims=True), 0)
    scale = (high - low) / top
    zero = np.round(-low / scale)
    return (scale * (np.clip(np.round(blocks / scale) + zero, 0, top) - zero)).reshape(x.shape)


def error(y: Array, made: Array | Tensor) -> float:
    return float(np.linalg.norm(y - np.asarray(made, dtype=np.float64)) / np.linalg.norm(y))


def check(known: float, ours: Callable[[Tensor, Tensor], Tensor], reading: Callable[[Array, Array], Array]) -> None:
    """Ours is the reading on each draw, and its mean error is the known one."""
    found = [(error(x @ w.T, ours(tensor(x), tensor(w))), error(x @ w.T, reading(x, w))) for x, w in draws()]
    for mine, theirs in found:
        assert mine == pytest.approx(theirs, rel=2e-2)  # float32 moves numbers on the edge between two levels
    assert np.mean(found) == pytest.approx(known, rel=KNOWN)


INT8, TOKENS, OUTPUTS = Scheme(8), Scheme(8, granularity="token"), Scheme(8, granularity="channel")


def test_naive_int8() -> None:
    check(0.0449, lambda x, w: INT8(x) @ INT8(w).T, lambda x, w: symmetric(x, 8) @ symmetric(w, 8).T)
    check(0.0173, lambda x, w: TOKENS(x) @ OUTPUTS(w).T, lambda x, w: symmetric(x, 8, 64) @ symmetric(w, 8, 64).T)


# -- SmoothQuant: s_j = max |X_j|^alpha / max |W_j|^(1 - alpha), the maximum over all layers with this input


def test_smoothing_scales_by_hand() -> None:
    """max |X| = (4, 8, 0) and max |W| = (0.5, 0.02, 0) over two layers; 0 is raised to 1e-5 on both sides."""
    largest, weights = torch.tensor([4.0, 8.0, 0.0]), torch.tensor([[0.5, -0.01, 0.0]])
    other = torch.tensor([[-0.25, 0.02, 0.0], [0.1, 0.0, 0.0]])
    made = smoothquant.smoothing_scales(largest, [weights, other], 0.5)
    assert made.tolist() == pytest.approx([8**0.5, 20, 1])
    made = smoothquant.smoothing_scales(largest, [weights, other], 0.75)
    assert made.tolist() == pytest.approx([4**0.75 / 0.5**0.25, 8**0.75 / 0.02**0.25, 1e-5**0.5])
    assert float(smoothquant.smoothing_scales(torch.zeros(1), [torch.ones(1, 1)], 1.0)) == pytest.approx(1e-5)
    assert smoothquant.ALPHA == 0.5


ALPHAS = {0.25: (0.0106, 0.0230), 0.5: (0.0104, 0.0150), 0.75: (0.0178, 0.0193), 1.0: (0.0389, 0.0392)}
"""alpha -> known error of O1, inputs per token, and of O2, inputs per tensor; weights per tensor in both."""


@pytest.mark.parametrize("alpha", ALPHAS)
def test_smoothquant(alpha: float) -> None:
    def ours(x: Tensor, w: Tensor, activation: Scheme) -> Tensor:
        s = smoothquant.smoothing_scales(x.abs().amax(0), [w], alpha)
        return activation(x / s) @ INT8(w * s).T

    def reading(x: Array, w: Array, rows: int | None) -> Array:
        s = np.abs(x).max(0) ** alpha / np.abs(w).max(0) ** (1 - alpha)
        return symmetric(x / s, 8, rows) @ symmetric(w * s, 8).T

    known = ALPHAS[alpha]
    check(known[0], lambda x, w: ours(x, w, TOKENS), lambda x, w: reading(x, w, 64))
    check(known[1], lambda x, w: ours(x, w, INT8), lambda x, w: reading(x, w, None))


# -- LLM.int8(): channels with some |X| >= 6 in full precision, the rest with a scale a token and an output


def test_llm_int8() -> None:
    def ours(x: Tensor, w: Tensor) -> Tensor:
        linear = nn.Linear(64, 64, bias=False).requires_grad_(False)
        linear.weight.data = w
        made = llm_int8.DecomposedLinear(linear, OUTPUTS, TOKENS)
        y = made(x)
        assert made.mean_channels == 2
        return y

    def reading(x: Array, w: Array) -> Array:
        out = np.abs(x).max(0) >= 6
        return x[:, out] @ w[:, out].T + symmetric(x[:, ~out], 8, 62) @ symmetric(w[:, ~out], 8, 62).T

    check(0.0017, ours, reading)


def test_a_magnitude_of_six_is_an_outlier() -> None:
    x = torch.tensor([[5.99, -6.0, 0.0], [1.0, 0.0, 6.01]])
    assert llm_int8.outlier_channels(x, llm_int8.THRESHOLD).tolist() == [False, True, True]


# -- QuaRot: Q = diag(+-1) H / sqrt(k)


def published_rotation() -> Array:
    signs = np.random.default_rng(100).choice([-1.0, 1.0], (64, 1))
    return signs * scipy.linalg.hadamard(64) / 8


@pytest.mark.parametrize("width", [12, 64, 576, 768])
def test_a_rotation_is_a_hadamard_matrix_with_random_signs(width: int) -> None:
    matrix, known = quarot.rotation(width).numpy() * width**0.5, quarot.hadamard(width)
    signs = matrix[:, :1] * known[:, :1]
    assert set(np.unique(signs.round(9))) == {-1.0, 1.0}
    np.testing.assert_allclose(matrix, signs * known, atol=1e-9)


def test_the_smallest_hadamard_matrix_and_the_largest_determinants_are_scipys() -> None:
    np.testing.assert_array_equal(quarot.hadamard(2), scipy.linalg.hadamard(2))
    for order in (4, 8, 64):
        assert abs(np.linalg.slogdet(quarot.hadamard(order))[1]) == pytest.approx(
            np.linalg.slogdet(scipy.linalg.hadamard(order))[1]
        )


ROTATED = {"token": (0.0070, 8, 64, 64), "tensor": (0.0114, 8, None, None), "token, 4 bits": (0.131, 4, 64, 64)}
"""Known error, bits, and how many neighbours share a scale in inputs and weights."""


@pytest.mark.parametrize("name", ROTATED)
def test_quarot(name: str) -> None:
    """Hadamard matrices differ but by signs and order of their rows, so that ours and SciPy's give like errors."""
    known, bits, *rows = ROTATED[name]
    schemes = [Scheme(bits, granularity="tensor" if many is None else "token") for many in rows]
    q, theirs = quarot.rotation(64).float(), published_rotation()
    found = []
    for x, w in draws():
        mine = schemes[0](tensor(x) @ q) @ schemes[1](tensor(w) @ q).T
        reading = symmetric(x @ theirs, bits, rows[0]) @ symmetric(w @ theirs, bits, rows[1]).T
        found.append((error(x @ w.T, mine), error(x @ w.T, reading)))
    ours, published = np.mean(found, axis=0)
    assert ours == pytest.approx(published, rel=0.1)
    assert ours == pytest.approx(known, rel=KNOWN)


def test_a_rotation_takes_an_outlier_apart() -> None:
    """Kurtosis from 63 to 1, and the int8 error of the other 63 channels from 0.64 to a seventh, 0.085."""
    q, others, found = quarot.rotation(64).float(), torch.arange(64) != 7, []
    for seed in range(DRAWS):
        x = torch.randn(512, 64, generator=torch.Generator().manual_seed(seed))
        x[:, 7] *= 100
        rotated = x @ q
        assert float(kurtosis(x)) == pytest.approx(63.2, abs=0.2)
        assert float(kurtosis(rotated)) == pytest.approx(1, abs=0.01)
        kept = x[:, others].numpy()
        found.append((error(kept, INT8(x)[:, others]), error(kept, (INT8(rotated) @ q.T)[:, others])))
    plain, after = np.mean(found, axis=0)
    assert (plain, after) == pytest.approx((0.636, 0.085), rel=0.25)


# -- SVDQuant: L = SVD_r(W^ - Q), Q = Q(W^ - L) while the output error falls; 4 bits in groups of 16


INT4 = Scheme(4, granularity="group", size=16)


def published_branch(x: Array, w: Array, rank: int, most: int) -> tuple[float, Array, Array]:
    """Error, quantised part and branch of a smoothed layer after the best of at most `most` improvements."""
    quantised, best = np.zeros_like(w), (np.inf, w, w)
    for _ in range(most + 1):
        left, values, right = np.linalg.svd(w - quantised, full_matrices=False)
        branch = left[:, :rank] @ np.diag(values[:rank]) @ right[:rank]
        quantised = symmetric(w - branch, 4, 16)
        now = error(x @ w.T, x @ branch.T + symmetric(x, 4, 16) @ quantised.T)
        if now >= best[0]:
            break
        best = now, quantised, branch
    return best


def smoothed(x: Array, w: Array) -> tuple[Array, Array]:
    s = (np.abs(x).max(0) / np.abs(w).max(0)) ** 0.5
    return x / s, w * s


def test_the_branch_is_numpys_singular_value_decomposition() -> None:
    for shape in ((64, 40), (40, 64), (64, 64)):
        w = np.random.default_rng(3).normal(size=shape)
        left, values, right = np.linalg.svd(w)
        for rank in (1, 4, 40):
            up, down = svdquant.low_rank(tensor(w), rank)
            assert (up.shape, down.shape) == ((shape[0], rank), (rank, shape[1]))
            wanted = left[:, :rank] @ np.diag(values[:rank]) @ right[:rank]
            np.testing.assert_allclose(up @ down, wanted, atol=1e-5)


RANKS = {1: (0.0438, 0.0423), 2: (0.0427, 0.0380), 4: (0.0404, 0.0355), 8: (0.0362, 0.0311), 16: (0.0270, 0.0230)}
"""Rank -> known error in one pass and with improvements, of a layer smoothed at a half."""


@pytest.mark.parametrize("improved", [False, True])
@pytest.mark.parametrize("rank", RANKS)
def test_svdquant(rank: int, improved: bool) -> None:
    most, found = svdquant.ITERATIONS if improved else 0, []
    for x, w in draws():
        xs, ws = smoothed(x, w)
        quantised, up, down, ours = svdquant.decompose(tensor(xs), tensor(ws), rank, INT4, INT4, most)
        theirs, part, branch = published_branch(xs, ws, rank, most)
        found.append(ours)
        assert ours == pytest.approx(theirs, rel=2e-2 if improved else 2e-3)
        if not improved:
            np.testing.assert_allclose(up @ down, branch, atol=1e-5)
            assert (np.abs(quantised.numpy() - part) > 1e-5).mean() < 1e-3
    assert np.mean(found) == pytest.approx(RANKS[rank][improved], rel=KNOWN)


def test_svdquant_without_a_branch_is_smoothed_rounding() -> None:
    """Known errors: 0.1285 plain, 0.0504 smoothed at a half."""
    check(0.1285, lambda x, w: INT4(x) @ INT4(w).T, lambda x, w: symmetric(x, 4, 16) @ symmetric(w, 4, 16).T)
    found = []
    for x, w in draws():
        xs, ws = smoothed(x, w)
        found.append(svdquant.decompose(tensor(xs), tensor(ws), 0, INT4, INT4)[3])
        assert found[-1] == pytest.approx(error(x @ w.T, symmetric(xs, 4, 16) @ symmetric(ws, 4, 16).T), rel=2e-3)
    assert np.mean(found) == pytest.approx(0.0504, rel=KNOWN)


def test_the_smoothing_of_svdquant_is_the_best_of_its_grid() -> None:
    """All pairs of exponents (alpha, 0) and (alpha, 1 - alpha) with alpha = k / 20, by hand."""
    for x, w in draws():
        ends, tried = (np.abs(x).max(0), np.abs(w).max(0)), []
        for alpha in np.arange(21) / 20:
            for beta in (0, 1 - alpha):
                s = ends[0] ** alpha / ends[1] ** beta
                tried.append((error(x @ w.T, symmetric(x / s, 4, 16) @ symmetric(w * s, 4, 16).T), s))
        found = svdquant.search_scales(tensor(x), tensor(ends[0]), [tensor(w)], INT4, INT4)
        np.testing.assert_allclose(found, min(tried, key=lambda one: one[0])[1], rtol=1e-4)


# -- weights alone: SplitQuant, AdaDim


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_zero_stays_zero_in_each_part_of_splitquant(bits: int) -> None:
    """A part has zeros where the others have numbers, and three parts add up to nothing else there."""
    w, at = tensor(numbers(0)[1]), [-0.02, 0.02]
    scheme = Scheme(bits, "asymmetric")
    for part in splitquant.split(w, at):
        assert (scheme(part)[part == 0] == 0).all()
    parts = [np.where(mask, w, 0) for mask in (w <= at[0], (w > at[0]) & (w < at[1]), w >= at[1])]
    reading = sum(asymmetric(part.astype(np.float64), bits, part.size) for part in parts)
    made = splitquant.quantised(w, scheme, at).numpy()
    assert (np.abs(made - reading) > 1e-6).mean() < 1e-3


ADADIM = {"outlier channel": (0.452, 0.151), "large row": (0.149, 0.165)}
"""Case -> known error of 3 bits in groups of 16 inputs, and of 16 outputs."""


@pytest.mark.parametrize("case", ADADIM)
def test_the_two_dimensions_of_adadim(case: str) -> None:
    scheme = Scheme(3, "asymmetric", "group", size=16)
    for at, dimension in enumerate(adadim.DIMENSIONS):
        found = []
        for seed in range(DRAWS):
            drawn = np.random.default_rng(seed)
            x, w = drawn.normal(size=(512, 64)), 0.02 * drawn.normal(size=(64, 64))
            if case == "outlier channel":
                x[:, 5], w[:, 5] = 30 * x[:, 5], w[:, 5] / 5
            else:
                w[7] *= 10
            reading = asymmetric(w, 3, 16) if dimension == "oc" else asymmetric(w.T.copy(), 3, 16).T
            found.append(error(x @ w.T, tensor(x) @ adadim.per(tensor(w), dimension, scheme).T))
            assert found[-1] == pytest.approx(error(x @ w.T, x @ reading.T), rel=2e-2)
        assert np.mean(found) == pytest.approx(ADADIM[case][at], rel=KNOWN)


# -- block floating point of keys: step 2^(floor(log2 max |x|) - (m - 2)), channels sorted by their norm


BLOCKS = {128: (0.2482, 0.2482), 64: (0.2097, 0.2241), 32: (0.1768, 0.1710), 16: (0.1489, 0.1321)}
"""Length of a block -> known error as they are and sorted, of one head of 128 channels with lognormal norms."""


@pytest.mark.parametrize("size", BLOCKS)
def test_block_floating_point(size: int) -> None:
    def reading(keys: Array) -> Array:
        blocks = keys.reshape(-1, size)
        step = 2.0 ** (np.floor(np.log2(np.abs(blocks).max(1, keepdims=True))) - 2)
        return (np.clip(np.round(blocks / step), -8, 7) * step).reshape(keys.shape)

    found = []
    for seed in range(DRAWS):
        drawn = np.random.default_rng(seed)
        keys = np.exp(drawn.normal(size=128)) * drawn.normal(size=(512, 128))
        shaped = tensor(keys)[None, None]  # (B, H, T, K)
        order = np.argsort((keys**2).sum(0))
        assert block_floating_point.order(shaped)[0].tolist() == order.tolist()
        for channels, wanted in ((None, reading(keys)), (torch.tensor(order)[None], reading(keys[:, order]))):
            made = block_floating_point.KeyQuantiser(size, 1, channels)(shaped)[0, 0].numpy()
            inside = made if channels is None else made[:, order]
            assert (np.abs(inside - wanted) > 1e-4).mean() < 1e-3
            found.append(error(keys, made))
    plain, ordered = np.mean(found[::2]), np.mean(found[1::2])
    assert (plain, ordered) == pytest.approx(BLOCKS[size], rel=KNOWN)
    assert np.sign(round(ordered - plain, 6)) == np.sign(BLOCKS[size][1] - BLOCKS[size][0])


# -- defaults


def test_the_defaults_are_the_published_ones() -> None:
    """SVDQuant's configuration, AdaDim's scripts, BFP12, and the three parts of SplitQuant."""
    assert (svdquant.ITERATIONS, svdquant.GRID, lab.GROUP) == (100, 20, 64)
    assert lab.WEIGHT_GROUP == 128
    assert (block_floating_point.MANTISSA, block_floating_point.EXPONENT) == (4, 8)
    assert splitquant.PARTS == 3
