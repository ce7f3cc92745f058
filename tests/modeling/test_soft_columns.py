"""What is stored of a teacher comes back: ids of any vocabulary, log-probs to half precision, the likeliest of more."""

from __future__ import annotations

import numpy as np
import pytest

from redi_ray.errors import UserError
from redi_ray.modeling.soft_columns import LOWEST, SoftFormat, blanks, is_soft, likeliest, pack, unpack


def made(form: SoftFormat, tokens: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """`ids[T, k]` that meet every border, in no order, and `logps[T, k + 1]`."""
    rng = np.random.default_rng(0)
    borders = [at for at in (0, 65535, 65536, 65537, 131072, form.vocabulary - 1) if at < form.vocabulary]
    ids = np.stack([rng.permutation(form.vocabulary)[: form.top_k] for _ in range(tokens)])
    for at, token in enumerate(borders * 3):
        place = at % form.top_k
        ids[at] = np.where(ids[at] == token, ids[at, place], ids[at])
        ids[at, place] = token
    logps = np.log(rng.dirichlet(np.full(form.top_k + 1, 0.3), tokens).astype(np.float32) + 1e-12)
    return ids, logps


@pytest.mark.parametrize(
    ("top_k", "vocabulary", "size"),
    [(1, 50, 6), (64, 32000, 258), (64, 65536, 258), (64, 65537, 259), (64, 151936, 260), (300, 262144, 1208)],
)
def test_comes_back_and_is_as_large_as_it_says(top_k, vocabulary, size):
    form = SoftFormat(top_k, vocabulary)
    ids, logps = made(form, 40)
    records = pack(ids, logps, form)
    assert form.bytes_per_token == records.dtype.itemsize == size
    assert is_soft(records)
    assert SoftFormat.from_json(form.to_json()) == form
    found, told = unpack(records)
    order = np.argsort(ids, 1)
    np.testing.assert_array_equal(found, np.take_along_axis(ids, order, 1))
    expected = np.concatenate([np.take_along_axis(logps[:, :-1], order, 1), logps[:, -1:]], 1)
    np.testing.assert_allclose(told, expected, rtol=1e-3, atol=1e-7)


def test_what_a_teacher_never_says_stays_a_number():
    """-inf, of a rest that is not there, becomes one whose exponential is 0."""
    form = SoftFormat(2, 2)
    told = unpack(pack(np.array([[1, 0]]), np.array([[-0.5, -0.9, -np.inf]]), form))[1]
    assert told[0, -1] == LOWEST
    assert np.exp(told[0, -1]) == 0


@pytest.mark.parametrize("odd", [np.nan, np.inf])
def test_what_is_no_log_prob_is_refused(odd):
    """Infinity had been taken for certainty."""
    with pytest.raises(UserError, match=r"no numbers \(NaN or \+inf\): its weights hold NaN or infinity, or overflow"):
        pack(np.array([[0, 1]]), np.array([[-0.5, odd, -3.0]]), SoftFormat(2, 5))


def test_a_record_of_zeros_is_none():
    """Scored tokens of samples that the teacher has not seen: they are noticed, where blanks stand for tokens nobody scores."""
    for vocabulary in (50, 151936):
        form = SoftFormat(4, vocabulary)
        with pytest.raises(ValueError, match="was not scored by the teacher"):
            unpack(np.zeros(3, form.dtype))
        ids, logps = unpack(blanks(3, form.dtype))
        assert ids.tolist() == [[0, 1, 2, 3]] * 3
        np.testing.assert_allclose(np.exp(logps).sum(1), 1, rtol=1e-3)


def test_fewer_of_the_same_column():
    """The likeliest stay, in rising order; what the others had is in the rest."""
    ids = np.array([[3, 5, 8, 9]])
    logps = np.log(np.array([[0.1, 0.4, 0.05, 0.3, 0.15]]))
    few, told = likeliest(ids, logps, 2)
    assert few.tolist() == [[5, 9]]
    np.testing.assert_allclose(np.exp(told), [[0.4, 0.3, 0.3]])
    for same in (None, 4, 9):
        assert likeliest(ids, logps, same)[0] is ids
