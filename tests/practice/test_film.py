"Drawn films: the truth beside them is the truth, and what cannot be drawn is a sentence"
import builtins
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bearclf.core import error_text
from bearclf.practice import film
from bearclf.practice.film import HENS, draw_film, film_path
from bearclf.watch.frames import frames


@pytest.fixture(scope='module')
def drawn(tmp_path_factory):
    dest = tmp_path_factory.mktemp('film')/'hens.mp4'
    return dest, draw_film(dest, 30, seed='a test')


def test_the_same_seed_gives_the_same_truth(drawn, tmp_path):
    dest, truth = drawn
    again = draw_film(tmp_path/'other.webm', 30, seed='a test')
    assert again.equals(truth) and pd.read_csv(dest.with_suffix('.csv')).equals(truth)
    assert not draw_film(tmp_path/'third.mp4', 30, seed='another').equals(truth)


def test_a_longer_film_begins_like_the_shorter_one(drawn, tmp_path):
    longer = draw_film(tmp_path/'long.mp4', 40, seed='a test')
    before = longer[longer.time < 27].reset_index(drop=True)  # the last to come in may be another
    assert before.equals(drawn[1][drawn[1].time < 27].reset_index(drop=True))


@pytest.mark.parametrize('seed', range(5))
def test_a_minute_has_all_kinds_and_all_numbers(seed):
    rows = [o for _, o in film.shots(60, 2, (96, 72), seed)]
    assert {len(o) for o in rows} == {0, 1, 2}
    kinds = pd.Series([o[0][2:4] for o in rows if o]).drop_duplicates().map(lambda o: o[1]).value_counts()
    assert {*kinds.index} == {*HENS} and kinds.idxmax() == 'brown'


def test_there_is_a_hen_where_the_table_says_so(drawn):
    "In the box the frame differs from the empty house, beside it does not; the head is in the box, and is red"
    dest, truth = drawn
    shown = {round(t, 3): np.asarray(im, float) for t, im in frames(dest)}
    assert len(shown) == 180
    empty = np.median(np.stack([*shown.values()]), 0)
    inside, outside, red, plain = [], [], [], []
    for t, hens in truth[truth.visible == 1].groupby('time'):
        if len(hens) > 1 or len(truth[truth.time == t]) > 1 or not hens.head_w.all(): continue
        o, im = hens.iloc[0], shown[t]
        box = np.zeros(im.shape[:2], bool)
        box[o.y:o.y+o.h, o.x:o.x+o.w] = True
        d = np.abs(im - empty*np.median((im + 1)/(empty + 1), (0, 1))).max(2)
        inside.append(d[box].mean()), outside.append(d[~box].mean())
        redness = im[..., 0] - im[..., 1]
        head = redness[o.head_y:o.head_y+o.head_h, o.head_x:o.head_x+o.head_w]
        red.append(head.mean()), plain.append(np.median(redness))
        assert o.x <= o.head_x and o.head_x + o.head_w <= o.x + o.w
        assert o.y <= o.head_y and o.head_y + o.head_h <= o.y + o.h
    assert len(inside) > 20
    assert (np.array(inside) > 2*np.array(outside)).mean() > .9
    assert (np.array(red) > np.array(plain)).mean() > .9


def test_visible_is_what_one_sees(drawn):
    truth = drawn[1]
    at_edge = truth[(truth.x > 0) & (truth.x + truth.w < 320)]
    alone = at_edge.groupby('time').filter(lambda o: len(truth[truth.time == o.name]) == 1)
    assert (alone.visible == 1).all() and len(alone) > 20
    assert truth.visible.min() < .5 and truth.visible.between(0, 1).all()


@pytest.mark.parametrize('suffix', ['.mp4', '.webm'])
def test_a_film_can_be_read(suffix, tmp_path):
    draw_film(tmp_path/f'a{suffix}', 3, 10, (160, 120))
    got = [(t, im.size) for t, im in frames(tmp_path/f'a{suffix}')]
    assert len(got) == 30 and {o for _, o in got} == {(160, 120)} and abs(got[-1][0] - 2.9) < .01


def test_nothing_is_overwritten_or_left_half_made(tmp_path, monkeypatch):
    (tmp_path/'a.csv').write_text('mine')
    assert 'a.csv is there already' in error_text(draw_film, tmp_path/'a.mp4', 2)
    assert (tmp_path/'a.csv').read_text() == 'mine'
    def broken(*args): raise KeyboardInterrupt
    monkeypatch.setattr(film, 'truth_of', broken)
    with pytest.raises(KeyboardInterrupt): draw_film(tmp_path/'b.mp4', 2)
    assert [o.name for o in tmp_path.iterdir()] == ['a.csv']


@pytest.mark.parametrize('wrong', [dict(seconds=0), dict(seconds=float('nan')), dict(seconds='60'), dict(seconds=True),
                                   dict(fps=0), dict(fps=1000), dict(size=320), dict(size=(320, 241)),
                                   dict(size=(32, 32)), dict(size=(240, 320)), dict(size=(320., 240.))])
def test_what_cannot_be_drawn(wrong, tmp_path):
    said = error_text(draw_film, tmp_path/'a.mp4', **wrong)
    assert 'choose' in said and not [*tmp_path.iterdir()]


def test_without_pyav_it_is_a_sentence(tmp_path, monkeypatch):
    real = builtins.__import__
    def missing(name, *args, **kwargs):
        if name == 'av': raise ModuleNotFoundError("No module named 'av'", name='av')
        return real(name, *args, **kwargs)
    monkeypatch.setattr(builtins, '__import__', missing)
    assert 'pip install av' in error_text(draw_film, tmp_path/'a.mp4')
    assert 'pip install av' in error_text(lambda: next(frames(Path(__file__))))


def test_the_cache_keeps_a_film(tmp_path, monkeypatch):
    monkeypatch.setenv('BEARCLF_CACHE', str(tmp_path))
    first = film_path('x', 2, 4, (96, 72))
    made = first.stat().st_mtime_ns
    assert film_path('x', 2, 4, (96, 72)) == first and first.stat().st_mtime_ns == made
    assert sorted(o.name for o in first.parent.iterdir()) == ['hens.csv', 'hens.mp4']
    assert film_path('y', 2, 4, (96, 72)) != first
