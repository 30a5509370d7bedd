"How a rate is said, and whether a difference between two judges of the same photos is more than chance"
from math import comb

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom, binomtest

from bearclf.core import BearclfError, percent, rate
from bearclf.train.interpret import *
from bearclf.train.interpret import wrong_of


@pytest.mark.parametrize('wrong, n, said', [
    (7, 78, '7 of 78 (9.0%; 95% interval 4.4% to 17.4%)'),
    (0, 60, '0 of 60 (0.0%; 95% interval 0.0% to 6.0%)'),
    (1, 1, '1 of 1 (100.0%; 95% interval 5.1% to 100.0%)'),
    (1, 5000, '1 of 5,000 (<0.1%; 95% interval <0.1% to 0.1%)'),  # one is not none
    (4999, 5000, '4,999 of 5,000 (>99.9%; 95% interval 99.9% to >99.9%)'),
    (0, 0, '0 of 0 (none were judged)')])
def test_a_rate_is_said_with_n_and_interval(wrong, n, said):
    assert wrong_of(wrong, n) == said and wrong_of(wrong, n, 'photos').startswith(said[:said.index(' (')] + ' photos (')


def test_a_probability_is_never_certain_and_a_count_may_be():
    values = 0, 1e-9, .0004, .9996, 1 - 1e-9, 1
    assert [percent(o) for o in values] == ['<0.1%']*3 + ['>99.9%']*3 and percent(float('nan')) == 'nan%'
    assert [rate(o) for o in values] == ['0.0%', '<0.1%', '<0.1%', '>99.9%', '>99.9%', '100.0%']


@pytest.mark.parametrize('wrong, n', [(0, 60), (3, 9), (7, 78), (78, 78), (50, 2000)])
def test_an_interval_is_scipys_and_wider_where_photos_were_judged_in_turns(wrong, n):
    scipy = binomtest(wrong, n).proportion_ci(method='wilson')
    assert wilson_interval(wrong, n) == pytest.approx((scipy.low, scipy.high), abs=1e-4)
    of_fewer = binomtest(wrong*4, n*4).proportion_ci(method='wilson')  # 5 turns: as of 4 photos for each 9
    assert wilson_interval(wrong*9, n*9, 5) == pytest.approx((of_fewer.low, of_fewer.high), abs=1e-4)


@pytest.mark.parametrize('n', [12, 23, 60, 240])
@pytest.mark.parametrize('rate', [.001, .004, .008, .015, .03, .1, .3, .5, .9, .995])
def test_an_interval_holds_the_truth_as_often_as_it_says(n, rate):
    "Also where hardly any photo is wrong"
    k = np.arange(n + 1)
    low, high = np.array([wilson_interval(int(o), n) for o in k]).T
    assert binom.pmf(k, n, rate)[(low <= rate) & (rate <= high)].sum() > .92


def pair(both, only_a, only_b, neither):
    kinds = np.repeat([[1, 1], [1, 0], [0, 1], [0, 0]], [both, only_a, only_b, neither], axis=0).astype(bool)
    return np.random.default_rng(0).permutation(kinds).T


def by_hand(a, b):
    "Twice the chance of so few heads, or fewer, in so many tosses"
    return min(1, 2*sum(comb(a + b, i) for i in range(min(a, b) + 1))/2**(a + b))


@pytest.mark.parametrize('a, b', [(9, 6), (6, 0), (5, 0), (0, 0), (1, 1), (11, 30), (59, 121)])
def test_the_exact_test_of_mcnemar(a, b):
    res = compare_errors(*pair(4, a, b, 190))
    assert (res.n, res.wrong_a, res.wrong_b, res.only_a, res.only_b) == (194 + a + b, 4 + a, 4 + b, a, b)
    assert res.p == pytest.approx(by_hand(a, b)) and ('more than chance' in str(res)) == (by_hand(a, b) < .05)


def test_the_sentence():
    assert str(compare_errors(*pair(3, 6, 3, 196))) == (
        "9 and 6 of 208 wrong: no difference that 208 photos could show (McNemar's exact test, p = 0.51)")
    assert str(compare_errors(*pair(0, 6, 0, 194))) == (
        "6 and 0 of 200 wrong: more than chance (McNemar's exact test, p = 0.031)")
    assert 'p < 0.001)' in str(compare_errors(*pair(0, 30, 2, 100)))


def test_photos_that_both_get_wrong_say_nothing():
    assert compare_errors(*pair(0, 6, 0, 10)).p == compare_errors(*pair(500, 6, 0, 10)).p


def table(wrong, order=None):
    rows = [(f'bears/{i}.jpg', 'ab'[i % 2], 'ab'[(i + o) % 2]) for i, o in enumerate(wrong)]
    t = pd.DataFrame(rows, columns=['file', 'actual', 'predicted'])
    return t if order is None else t.iloc[order]


def test_tables_are_matched_by_file():
    a, b = pair(3, 9, 2, 40)
    assert compare_errors(table(a), table(b, np.random.default_rng(1).permutation(len(b)))) == compare_errors(a, b)


@pytest.mark.parametrize('b, said', [
    (lambda t: t[1:], 'not the same photos'),
    (lambda t: t.assign(file='x' + t.file), 'not the same photos'),
    (lambda t: t.assign(actual=['b', *t.actual[1:]]), 'other labels'),
    (lambda t: pd.concat([t, t[:1]]), 'twice'),
    (lambda t: t.drop(columns='actual'), 'no column actual'),
    (lambda t: [True]*20, 'two tables')])
def test_what_cannot_be_compared_gets_one_sentence(b, said):
    t = table([False]*20)
    with pytest.raises(BearclfError, match=said): compare_errors(t, b(t))
    with pytest.raises(BearclfError, match=said): compare_errors(b(t), t)


@pytest.mark.parametrize('a, b', [([True], [True, False]), ([.5], [.2]), ([], []), ([1, 0], [0, 1])])
def test_arrays_of_something_else(a, b):
    with pytest.raises(BearclfError): compare_errors(a, b)
