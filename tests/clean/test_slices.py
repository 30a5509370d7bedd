"Slices: where a model is worse by more than chance, and what is said where nothing can be known"
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.stats import binom, fisher_exact

from bearclf.clean import slices
from bearclf.clean.slices import *
from bearclf.core import BearclfError


def table(n=414, seed=0):
    "Photos with a few properties that have nothing to do with the errors, of which there are none"
    rng = np.random.default_rng(seed)
    actual = rng.choice(['black', 'grizzly', 'teddy'], n)
    return pd.DataFrame(dict(photo=[f'{i}.jpg' for i in range(n)], actual=actual, predicted=actual,
                             side=rng.integers(100, 2000, n), brightness=rng.uniform(0, 255, n),
                             quality=np.where(rng.random(n) < .3, np.nan, rng.uniform(50, 99, n)),
                             source=rng.choice(['', 'a.org', 'b.org', 'c.org'], n), ranger=rng.choice([*'xyz'], n)))


def wrong_at(t, which): return t.assign(predicted=np.where(which, 'rock', t.actual))


@pytest.mark.parametrize('seed', range(5))
def test_a_planted_slice_is_found(seed):
    t = table(seed=seed)
    part, lots = t.side <= t.side.quantile(.2), np.random.default_rng(seed).random(len(t))
    res = find_slices(wrong_at(t, lots < np.where(part, .3, .03)))
    assert res.found.slice.str.startswith('side up to').any() and len(res.found) <= 2
    assert 'LOOK' in str(res) and 'would have to be' in str(res)


@pytest.mark.parametrize('name, slice', [('ranger', 'ranger y'), ('source', 'source b.org'), ('actual', 'class teddy')])
def test_words_classes_and_own_columns(name, slice):
    t = table()
    part = (t[name] == slice.split()[1]).to_numpy()
    res = find_slices(wrong_at(t, part & (np.arange(len(t))%3 == 0)))
    assert res.found.slice[0] == slice


def test_a_pair_of_class_and_property():
    t = table()
    part = ((t.actual == 'teddy') & (t.brightness <= t.brightness.quantile(.2))).to_numpy()
    res = find_slices(wrong_at(t, part))
    assert res.found.slice[0].startswith('class teddy, brightness up to') and len(res.found) == 1


def test_shuffled_errors_are_seldom_found():
    t = table()
    found = [len(find_slices(wrong_at(t, np.random.default_rng(i).permutation(len(t)) < 40)).found) for i in range(40)]
    assert sum(map(bool, found)) <= 2


def test_few_errors_are_said_to_be_few():
    t = table()
    said = str(find_slices(wrong_at(t, np.arange(len(t))%35 == 0)))  # 12 of 414
    assert '12 of 414 photos are wrong' in said and 'Too few errors to tell' in said
    assert 'a slice of a fifth (83 photos) would have to be' in said and 'no weak' not in said.lower()
    assert 'slices' in str(find_slices(t)) and '0 of 414' in str(find_slices(t))
    assert 'too few to be cut' in str(find_slices(t.head(20)))


def test_the_chance_is_that_of_simulated_folders():
    rng, n, total, level = np.random.default_rng(1), 30, 150, .01
    k, m = rng.binomial(n, .25, 400), rng.binomial(total - n, .05, 400)
    p = [fisher_exact([[a, n - a], [b, total - n - b]], 'greater').pvalue for a, b in zip(k, m)]
    assert chance_to_find(.25, .05, n, total, level) == pytest.approx(np.mean(np.array(p) < level), abs=.07)
    least = slices._rate_seen(.05, n, total, level)
    assert chance_to_find(least, .05, n, total, level) >= .8 > chance_to_find(least - .01, .05, n, total, level)


def test_a_table_of_another_and_one_that_lacks_something(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(24):
        f = tmp_path/'ab'[i%2]/f'{i}.png'
        f.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (40, 40 + i, 3), dtype=np.uint8)).save(f)
    files = sorted(tmp_path.glob('*/*'))
    t = pd.DataFrame(dict(file=files, actual=[o.parent.name for o in files], predicted='a', probability=.9))
    (files[3]).write_bytes(b'')
    res = find_slices(t)
    assert len(res.photos) == 23 and 'Files that could not be used: 1;' in str(res) and res.table.n.min() >= 10
    res.show(n=2)
    with pytest.raises(BearclfError, match='no column predicted'): find_slices(t.drop(columns='predicted'))
    with pytest.raises(BearclfError, match='no predictions'): find_slices(t.head(0))
