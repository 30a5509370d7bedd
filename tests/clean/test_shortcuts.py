"Shortcuts: what tells a class and is no part of it, what a model does with it, and what is said where nothing is found"
import math, shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from bearclf.clean import shortcuts
from bearclf.clean.shortcuts import *
from bearclf.core import BearclfError, table_text
from bearclf.collect.collect import MANIFEST
from bearclf.folder.look import check_folder
from bearclf.photo import fingerprint


def photo(rng, size=(60, 48)):
    "A picture of patches, such as no border, text or bar looks like"
    return Image.fromarray(rng.integers(0, 255, (6, 8, 3), dtype=np.uint8)).resize(size, Image.Resampling.BICUBIC)


def folder(path, n=14, change=lambda im, i: im, classes=('a', 'b', 'c'), **kwargs):
    "Class folders of `n` photos each; `change` is done to those of the first class"
    rng = np.random.default_rng(3)
    for c in classes:
        (path/c).mkdir(parents=True)
        for i in range(n):
            im = photo(rng, (int(rng.integers(50, 70)), int(rng.integers(50, 70))))
            mine = c == classes[0]
            quality = int(rng.integers(75, 95))
            if mine: im = change(im, i)
            im.save(path/c/f'{i}.jpg', **(dict(quality=quality) | (kwargs if mine else {})))
    return path


def told(res): return {(o['class'], o.family) for _, o in res.found.iterrows()}


def test_nothing_found_says_what_could_have_been(tmp_path):
    res = find_shortcuts(folder(tmp_path/'p', 20))
    assert told(res) == set() and 'Nothing was found' in str(res)
    assert 'would be found in 8 of 10 such folders' in str(res) and 'no shortcut' not in str(res).lower()


def framed(im, i):
    out = Image.new('RGB', im.size, 'white')
    out.paste(im.resize((im.width - 12, im.height - 12)), (6, 6))
    return out


@pytest.mark.parametrize('family, change, kwargs', [
    ('border', framed, {}),
    ('shape', lambda im, i: im.resize((110 + i, 50)), {}),
    ('size', lambda im, i: im.resize((30, 30 + i)), {}),
    ('compression', lambda im, i: im, dict(quality=20))], ids=lambda o: o if isinstance(o, str) else '')
def test_what_was_planted_is_found(tmp_path, family, change, kwargs):
    res = find_shortcuts(folder(tmp_path/'p', change=change, **kwargs))
    assert ('a', family) in told(res)
    assert {c for c, _ in told(res)} == {'a'}, 'the others stand out only because the first does'
    assert 'LOOK' in str(res) and 'than photos of other classes, in ' in str(res)
    res.show(n=2, most=1)


def test_brightness_is_a_note(tmp_path):
    res = find_shortcuts(folder(tmp_path/'p', change=lambda im, i: im.point(lambda o: o//3)))
    assert 'brightness' in set(res.notes.family) and 'brightness' not in set(res.found.family)
    assert 'may be the thing itself' in str(res)


def test_a_format_and_a_source_that_one_class_has(tmp_path):
    path = folder(tmp_path/'p', 20)
    rows = []
    for i, o in enumerate(sorted(path.glob('*/*'))):
        if o.parent.name == 'b' and i%3:
            with Image.open(o) as im: im.save(o, 'PNG')
        host = 'bears.example' if o.parent.name == 'c' else f'www.site{i%4}.example'
        row = dict.fromkeys(MANIFEST, '') | dict(sha256=fingerprint(o), address=f'https://{host}/{i}.jpg')
        rows.append([row[k] for k in MANIFEST])
    (path/'manifest.csv').write_text(table_text(MANIFEST, rows))
    res = find_shortcuts(path)
    found = {(o['class'], o.property, o.value) for _, o in res.table[res.table.found].iterrows()}
    assert {('b', 'format', 'PNG'), ('c', 'source', 'bears.example')} <= found
    assert 'c: a photo comes from bears.example in 100% of this class, and in 0% of the others' in str(res)
    assert not res.said
    (path/'manifest.csv').write_text('nonsense')
    assert 'manifest.csv cannot be read' in str(find_shortcuts(path))


def test_copies_count_once(tmp_path):
    path = folder(tmp_path/'p', 12)
    for i in range(30): framed(Image.open(path/'a'/'0.jpg'), 0).save(path/'a'/f'copy{i}.png')
    assert ('a', 'border') in told(find_shortcuts(path, copies=False))
    res = find_shortcuts(path)
    assert ('a', 'border') not in told(res) and 'copies count once' in str(res)


def test_small_and_single_classes_and_broken_files(tmp_path):
    path = folder(tmp_path/'p', 10)
    for o in [*(path/'c').iterdir()][3:]: o.unlink()
    (path/'a'/'broken.jpg').write_bytes(b'\xff\xd8\xff no photo')
    res = find_shortcuts(path)
    assert 'Of c there are fewer than 8 photos' in str(res) and 'Files that could not be used: 1;' in str(res)
    for o in 'b', 'c': shutil.rmtree(path/o)
    assert 'one class only' in str(find_shortcuts(path))
    (tmp_path/'empty'/'a').mkdir(parents=True)
    with pytest.raises(BearclfError, match='no photos in class folders'): find_shortcuts(tmp_path/'empty')
    with pytest.raises(BearclfError, match='no folder'): find_shortcuts(tmp_path/'nowhere')


def test_two_classes_are_told_once(tmp_path):
    res = find_shortcuts(folder(tmp_path/'p', change=framed, classes=('a', 'b')))
    assert set(res.table['class']) == {'a'} and ('a', 'border') in told(res)


def test_a_report_will_do_and_stays_as_it_is(tmp_path):
    report = check_folder(folder(tmp_path/'p', change=framed))
    (report.photos[-1]).write_bytes(b'')  # meanwhile somebody has emptied it
    n, looks = len(report.photos), dict(report.looks)
    res = find_shortcuts(report)
    assert ('a', 'border') in told(res) and len(res.photos) == n - 1
    assert len(report.photos) == n and report.looks == looks


def test_the_quality_of_a_jpeg(tmp_path):
    for q in 15, 50, 75, 92:
        photo(np.random.default_rng(0)).save(tmp_path/'o.jpg', quality=q)
        with Image.open(tmp_path/'o.jpg') as im: assert abs(shortcuts._quality(im) - q) < 3
    photo(np.random.default_rng(0)).save(tmp_path/'o.png')
    with Image.open(tmp_path/'o.png') as im: assert math.isnan(shortcuts._quality(im))


def test_what_is_said_of_a_model():
    "It uses the property where that moves many of its answers, all else being the same"
    use = lambda given, other, p, n=120: shortcuts.Use('rim', 'a', n, given, other, p)
    said = 'The model uses it: of 120 photos it takes 60 for a with the rim of a, and 20 with the rim of others.'
    assert use(60, 20, 1e-6).used and str(use(60, 20, 1e-6)) == said
    assert not use(60, 50, 1e-6).used, 'surely, but little'
    assert not use(60, 40, .02).used and 'No sign that the model uses it: ' in str(use(60, 40, .02)), 'may be chance'
    assert not use(20, 60, 1e-6).used, 'it goes the other way'


@pytest.fixture(scope='module')
def pair(tmp_path_factory):
    "Two photos, and the rows that say what they are like: a large one, and a small, wide, dark one of low quality"
    path, rng = tmp_path_factory.mktemp('pair'), np.random.default_rng(5)
    for name, im, quality in (('a/1', photo(rng, (320, 240)), 92),
                              ('b/2', photo(rng, (180, 90)).point(lambda o: o//3), 30)):
        (path/name).parent.mkdir()
        im.save(path/f'{name}.jpg', quality=quality)
    table = photo_properties(path, copies=False)
    return [(Image.open(o.photo).convert('RGB'), o) for o in table.itertuples()]


def test_what_is_given_is_there(pair):
    "Like the other photo in this one thing"
    (im, row), (_, like) = pair
    give = lambda family, o=like: shortcuts.GIVES[family][1](im, o)
    assert give('size').size == (120, 90) and give('size', row).size == im.size
    assert (o := give('shape')).size == (320, 160) and o.tobytes() == im.crop((0, 40, 320, 200)).tobytes()
    assert np.asarray(give('brightness').convert('L')).mean() == pytest.approx(like.brightness, abs=2)
    harm = [abs(np.asarray(give('compression', o), float) - np.asarray(im)).mean() for o in (row, like)]
    assert harm[1] > 2*harm[0] > 0 and like.quality == pytest.approx(30, abs=2)
    assert give('compression', like._replace(quality=math.nan)).tobytes() == im.tobytes(), 'it is no JPEG'
    assert (o := np.asarray(give('compression', like._replace(storage='grey'))))[..., 0].tolist() == o[..., 1].tolist()


def test_a_rim_is_given_and_the_middle_stays(pair):
    (im, row), (other, like) = pair
    given, x, y = shortcuts.GIVES['rim'][1](im, like), im.width//8, im.height//8
    middle = x, y, im.width - x, im.height - y
    assert given.crop(middle).tobytes() == im.crop(middle).tobytes()
    assert given.crop((0, 0, im.width, y)).tobytes() == other.resize(im.size).crop((0, 0, im.width, y)).tobytes()


@pytest.mark.parametrize('size', [(1, 1), (1, 300), (300, 1), (9, 5)])
@pytest.mark.parametrize('family', shortcuts.GIVES)
def test_the_smallest_photos_can_be_given_anything(pair, family, size):
    "Nothing becomes a picture without pixels"
    for _, like in pair: assert min(shortcuts.GIVES[family][1](Image.new('RGB', size), like).size) >= 1


def test_who_lends():
    "The half of a class that has most of it; of a word, those that it is said of"
    t = pd.DataFrame(dict(label=['a']*4 + ['b']*6, side=[9, 8, 7, 6, 5, 4, 3, 2, 1, 0],
                          format=['PNG', 'JPEG', 'PNG', 'JPEG', 'JPEG', 'PNG', 'JPEG', 'JPEG', 'JPEG', 'JPEG']))
    finding = lambda **kw: pd.Series(dict(value='', auc=.9) | kw | {'class': 'a'})
    lend = lambda **kw: [list(o.index) for o in shortcuts._lenders(t, finding(**kw))]
    assert lend(property='side') == [[0, 1], [9, 8, 7]]
    assert lend(property='side', auc=.1) == [[3, 2], [4, 5, 6]]
    assert lend(property='format', value='PNG') == [[0, 2], [4, 6, 7, 8, 9]]
