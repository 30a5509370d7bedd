"Sounds and tracks: the same each time, in their range, and not told apart by what should not tell them apart"
import io, itertools, os, wave

import numpy as np
import pytest
from scipy.io import wavfile
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import cross_val_predict
from sklearn.tree import DecisionTreeClassifier

from bearclf.core import BearclfError
from bearclf.practice import sounds
from bearclf.practice.sounds import (HANDS, RATE, SOUNDS, draw_sounds, draw_tracks, move_mouse, play_sound, read_sound,
                                     sounds_path, tracks_path)
from helpers import python

EACH = 60


@pytest.fixture(scope='module')
def played(): return {k: [play_sound(k, i) for i in range(EACH)] for k in SOUNDS}


@pytest.fixture(scope='module')
def moved(): return {k: [move_mouse(k, i) for i in range(EACH)] for k in HANDS}


def rms(x): return float(np.sqrt((x**2).mean()))
def files(path): return {o.relative_to(path).as_posix(): o.read_bytes() for o in path.rglob('*') if o.is_file()}


def told_apart(made, number, model):
    "How often a judge is right that knows of each thing nothing but `number(thing)`"
    y = np.array([k for k, v in made.items() for _ in v])
    x = np.array([number(o) for v in made.values() for o in v], dtype=float).reshape(len(y), -1)
    return (cross_val_predict(model, x, y, cv=5) == y).mean()


# --- sounds

def test_range_and_shape(played):
    for x in itertools.chain(*played.values()):
        assert x.shape == (RATE,) and x.dtype == float and np.abs(x).max() <= 1 and rms(x) > .01
        assert (np.round(x*32767) == np.round(x*32767, 6)).all(), 'what a WAV file can hold'
    assert len({o.tobytes() for o in itertools.chain(*played.values())}) == len(SOUNDS)*EACH


def test_the_same_each_time(played):
    code = 'from bearclf.practice.sounds import *; print([play_sound(k, 5).tobytes().hex() for k in SOUNDS])'
    assert eval(python(code, PYTHONHASHSEED='7')) == [played[k][5].tobytes().hex() for k in SOUNDS]
    assert (play_sound('bell', '5') == played['bell'][5]).all(), 'the text of the seed decides'
    assert not any((play_sound(a, 5) == played[b][5]).all() for a, b in itertools.permutations(SOUNDS, 2))


def test_neither_loudness_nor_length_gives_a_kind_away(played):
    chance, judge = 1/len(SOUNDS), DecisionTreeClassifier(max_depth=4, random_state=0)
    assert told_apart(played, rms, judge) < chance + .07
    assert told_apart(played, lambda x: (rms(x), len(x)), judge) < chance + .07
    loud = {k: [3*x if k == 'bell' else x for x in v] for k, v in played.items()}  # the check itself can fail
    assert told_apart(loud, rms, judge) > chance + .07


def middle(x): p = np.abs(np.fft.rfft(x))**2; return (np.fft.rfftfreq(len(x), 1/RATE)*p).sum()/p.sum()


def test_the_kinds_differ_all_the_same(played):
    def heard(x):
        uneven = np.std([rms(o) for o in np.array_split(x, 20)])/rms(x)
        return [middle(x), uneven, middle(x[RATE//2:]) - middle(x[:RATE//2])]
    assert told_apart(played, heard, RandomForestClassifier(100, random_state=0)) > .6


def test_a_whistle_backwards_is_the_other_one(played):
    def rises(x): return middle(x[RATE//2:]) - middle(x[:RATE//2])
    up, down = (np.mean([rises(x) for x in played[k]]) for k in ('whistle_up', 'whistle_down'))
    back = np.mean([rises(x[::-1]) for x in played['whistle_up']])
    assert up > 50 and down < -50 and back < -50


@pytest.mark.parametrize('kind', ['cat', '', None, 3, ['bell'], 'Bell'])
def test_unknown_kinds(kind):
    for f in play_sound, move_mouse:
        with pytest.raises(BearclfError, match='There is no (sound|hand) called .*; choose '): f(kind, 1)


# --- files

def test_a_wav_file_is_read_by_all(tmp_path, played):
    path = draw_sounds(tmp_path/'s', 9, seed='x')
    for o in path.rglob('*.wav'):
        with wave.open(str(o)) as f:
            assert (f.getnchannels(), f.getsampwidth(), f.getframerate(), f.getnframes()) == (1, 2, RATE, RATE)
        rate, ints = wavfile.read(o)
        x, own = read_sound(o)
        assert rate == own == RATE and ints.dtype == np.int16 and (np.round(x*32767) == ints).all()
        assert (x == play_sound(o.parent.name, f'x {int(o.stem)}')).all()


def test_sounds_from_elsewhere(tmp_path):
    ints = np.array([[-32768, -32768], [0, 100], [32767, 32767]], np.int16)
    wavfile.write(tmp_path/'two.wav', 44100, ints)
    x, rate = read_sound(str(tmp_path/'two.wav'))
    assert rate == 44100 and x.tolist() == pytest.approx([-1, 50/32767, 1])


def test_what_is_no_sound(tmp_path):
    out = io.BytesIO()
    wavfile.write(out, RATE, (play_sound('bell', 1)*32767).astype(np.int16))
    whole = out.getvalue()
    wavfile.write(tmp_path/'bits.wav', RATE, np.zeros(9, np.uint8))
    wavfile.write(tmp_path/'float.wav', RATE, np.zeros(9, np.float32))
    wavfile.write(tmp_path/'none.wav', RATE, np.zeros(0, np.int16))
    for name, data in dict(empty=b'', text=b'no sound', head=whole[:30]).items():
        (tmp_path/f'{name}.wav').write_bytes(data)
    for o in [*tmp_path.glob('*.wav'), tmp_path/'missing.wav', tmp_path, '']:
        with pytest.raises(BearclfError) as e: read_sound(o)
        assert '\n' not in str(e.value) and str(e.value).endswith('.')
    for n in range(200):
        (tmp_path/'cut.wav').write_bytes(whole[:n])
        try: assert np.abs(read_sound(tmp_path/'cut.wav')[0]).max() <= 1
        except BearclfError: pass


@pytest.mark.parametrize('make, known', [(draw_sounds, SOUNDS), (draw_tracks, HANDS)])
def test_a_folder(make, known, tmp_path, monkeypatch):
    "Even, the same first ones whatever n is; what is wrong is said, and nothing is changed by it"
    some = files(make(tmp_path/'a', len(known) + 1))
    more = files(make(tmp_path/'b', 2*len(known)))
    assert some.items() <= more.items() and len(some) == len(known) + 1 and len(more) == 2*len(known)
    assert {o.split('/')[0] for o in some} == {*known}
    assert files(make(tmp_path/'c', len(known) + 1, seed=43)).keys() == some.keys()
    assert not {*files(tmp_path/'c').values()} & {*some.values()}
    (tmp_path/'empty').mkdir()
    only = files(make(tmp_path/'empty', 2, kinds=known[:1]))
    assert {o.split('.')[0] for o in only} == {f'{known[0]}/0000000{i}' for i in (0, 1)}
    (tmp_path/'file').write_text('mine')
    before = files(tmp_path)
    bad = [dict(dest='a'), dict(dest='file'), dict(n=len(known)-1), dict(n=True), dict(n=9.), dict(n=10**7),
           dict(n=None), dict(kinds=()), dict(kinds=known[0]), dict(kinds=[known[0]]*2), dict(kinds=['cat']),
           dict(kinds=[[]])]
    for kw in bad:
        with pytest.raises(BearclfError) as e: make(**dict(dest=tmp_path/kw.pop('dest', 'new')) | kw)
        assert '\n' not in str(e.value)
    with pytest.raises(BearclfError, match='empty'): make('')
    assert files(tmp_path) == before and not (tmp_path/'new').exists()
    monkeypatch.setattr(sounds, 'play_sound', lambda *_: 1/0)
    monkeypatch.setattr(sounds, 'move_mouse', lambda *_: 1/0)
    with pytest.raises(ZeroDivisionError): make(tmp_path/'half', 9)
    assert files(tmp_path) == before and {o.name for o in tmp_path.iterdir()} == {'a', 'b', 'c', 'empty', 'file'}


def test_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv('BEARCLF_CACHE', str(tmp_path))
    for f, known in (sounds_path, SOUNDS), (tracks_path, HANDS):
        path = f(9)
        times = {o: os.stat(o).st_mtime_ns for o in path.rglob('*.*')}
        assert f(9) == path and times == {o: os.stat(o).st_mtime_ns for o in path.rglob('*.*')} and len(times) == 9
        assert f(10) != path and f(9, seed=1) != path and {o.name for o in path.iterdir()} == {*known}


# --- tracks

def test_tracks(moved, tmp_path):
    for t in itertools.chain(*moved.values()):
        x, y, seconds, click = t.T
        assert t.shape[1] == 4 and x.min() >= 0 and x.max() <= 1279 and y.min() >= 0 and y.max() <= 799
        assert np.diff(seconds) == pytest.approx(.02) and seconds[0] == 0
        assert {*click} == {0, 1} and 4 <= click.sum() <= 9
        for i in np.flatnonzero(click): assert (t[i, :2] == t[i-1, :2]).all(), 'a hand rests when it clicks'
    assert (move_mouse('steady', 3) == moved['steady'][3]).all()
    path = draw_tracks(tmp_path/'t', 3)
    for o in path.rglob('*.csv'):
        assert o.read_text().splitlines()[0] == 'x,y,seconds,click'
        assert (np.loadtxt(o, delimiter=',', skiprows=1) == move_mouse(o.parent.name, f'42 {int(o.stem)}')).all()


def test_hands_differ_and_not_by_the_number_of_clicks(moved):
    judge = DecisionTreeClassifier(max_depth=4, random_state=0)
    assert told_apart(moved, lambda t: t[:, 3].sum(), judge) < 1/3 + .12
    assert told_apart(moved, lambda t: np.hypot(*np.diff(t[:, :2], axis=0).T).mean(), judge) < .8, 'speeds overlap'
    def straight(t):
        legs = np.split(t[:, :2], np.flatnonzero(t[:, 3]))[1:-1]
        return np.mean([np.hypot(*(p[-1] - p[0]))/np.hypot(*np.diff(p, axis=0).T).sum() for p in legs])
    found = {k: np.mean([straight(t) for t in v]) for k, v in moved.items()}
    assert found['program'] > found['steady'] > found['hurried']
