"Links, and folders of one name: what is no copy at all, and what only a person can decide; and what pixels tell"
import io, os, random, shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageEnhance

from bearclf.clean.issues import find_issues, suggestions
from bearclf.folder import copies
from bearclf.folder.copies import (ASKED, MARKS, NEAR, compared, hash_distance, perceptual_hash, same_picture, twins,
                                   twins_in)
from bearclf.folder.look import check_folder
from bearclf.folder.moves import undo
from bearclf.folder.verify import verify
from bearclf.photo import forget
from bearclf.practice.drawn import CLASSES, draw_bear, draw_bears
from bearclf.train.data import photo_dls
from bearclf.train.learner import photo_learner


def bare(path): return photo_learner(photo_dls(path, 64, num_workers=0), 'squeezenet1_0', False)


def photo(file, seed=1, **kw):
    file.parent.mkdir(parents=True, exist_ok=True)
    draw_bear('black', seed, 128).save(file, **kw)
    return file


def symlink(link, to):
    link.parent.mkdir(parents=True, exist_ok=True)
    try: link.symlink_to(to)
    except OSError: pytest.skip('links cannot be made here')


def hard(link, to): os.link(link.parent/to, link)


def found(path): return [(r.file, r.finding, r.what, r.action) for r in verify(path).table.itertuples()]


@pytest.mark.parametrize('make, words', [(symlink, 'a link to'), (hard, 'another name of')])
@pytest.mark.parametrize('link', ['a.jpg', 'c.jpg'])
def test_another_name_is_no_copy(tmp_path, make, words, link):
    "Whichever comes first by name"
    photo(tmp_path/'black/b.jpg')
    make(tmp_path/'black'/link, 'b.jpg')
    if make is hard and link == 'a.jpg': link, one = 'b.jpg', 'a.jpg'
    else: one = 'b.jpg'
    assert found(tmp_path) == [(f'black/{link}', 'link', f'{words} black/{one}', 'for you to decide')]
    assert not verify(tmp_path, fix=True).done and (tmp_path/'black/b.jpg').is_file()


def test_a_link_is_never_the_one_that_stays(tmp_path):
    "Not of a copy with the same pixels, nor of a smaller one, though the link leads to the largest"
    outside = photo(tmp_path/'elsewhere/b.jpg')
    path = tmp_path/'bears'
    symlink(path/'black/a.jpg', outside)
    shutil.copy(outside, photo(path/'black/b.jpg'))
    photo(path/'black/c.png').unlink()
    draw_bear('black', 1, 128).resize((96, 96)).save(path/'black/c.png')
    table = {o[0]: o for o in found(path)}
    assert 'black/b.jpg' not in table and table['black/a.jpg'][3] == 'for you to decide'
    verify(path, fix=True)
    assert (path/'black/a.jpg').is_symlink() and (path/'black/b.jpg').is_file() and outside.is_file()


def test_where_a_link_leads_stays_under_its_name(tmp_path):
    "The original is a copy of another photo, and has a wrong name: moved, it would leave the link behind"
    for o in 'ab': photo(tmp_path/f'black/{o}.jpg', format='PNG')
    symlink(tmp_path/'black/c.jpg', 'b.jpg')
    report = verify(tmp_path, fix=True)
    assert set(report.done) == {'black/a.jpg', 'black/c.jpg'}, 'both are only renamed'
    assert all(o.is_file() for o in (tmp_path/'black').iterdir())
    assert ('black/b.jpg', 'duplicate', 'for you to decide') in {(r.file, r.finding, r.action)
                                                               for r in report.table.itertuples()}
    undo(tmp_path)
    assert sorted(os.listdir(tmp_path/'black')) == ['a.jpg', 'b.jpg', 'c.jpg']


def test_a_link_among_the_issues(tmp_path):
    path = tmp_path/'bears'
    draw_bears(path, 30, 64)
    one, other = sorted(path.glob('*/*.jpg'))[3], sorted(path.glob('teddy/*.jpg'))[0]
    symlink(one.with_name('00.jpg'), one.name)
    symlink(path/'grizzly/00.jpg', other)
    table = find_issues(bare(path)).set_index('photo')
    for link, real in (one.with_name('00.jpg'), one), (path/'grizzly/00.jpg', other):
        assert f'a link to {real.relative_to(path).as_posix()}' in table.reasons[link]
        assert not [k for k in table.kinds[real] if 'duplicate' in k or k == 'two classes']
        assert not {link, real} & set(suggestions(table, .9).index)


def test_folders_of_one_name_are_two(tmp_path):
    for o in '2019/img', '2020/img': photo(tmp_path/o/'a.jpg')
    assert found(tmp_path) == [('2020/img/a.jpg', 'same photo in two classes', 'same as 2019/img/a.jpg',
                                'for you to decide')]
    assert not verify(tmp_path, fix=True).done


def test_nearly_the_same_in_folders_of_one_name(tmp_path):
    photo(tmp_path/'2019/img/a.jpg')
    photo(tmp_path/'2020/img/a.png')
    assert [o[1:2] + o[3:] for o in found(tmp_path)] == [('same photo in two classes', 'for you to decide')]


@pytest.mark.parametrize('top', ['', 'data/'])
def test_train_and_valid_hold_one_class(tmp_path, top):
    for o in 'train', 'valid': photo(tmp_path/f'{top}{o}/black/a.jpg')
    assert found(tmp_path) == [(f'{top}valid/black/a.jpg', 'duplicate', f'same as {top}train/black/a.jpg', 'set aside')]


def test_folders_called_train_and_test_are_classes_too(tmp_path):
    for o in 'train', 'test': photo(tmp_path/o/'a.jpg')
    assert [o[1] for o in found(tmp_path)] == ['same photo in two classes']


def test_folders_of_one_name_among_the_issues(tmp_path):
    path = tmp_path/'bears'
    draw_bears(path, 30, 64)
    for year in '2019', '2020':
        for o in 'black', 'grizzly', 'teddy': (path/year).mkdir(exist_ok=True)
        (path/('black' if year == '2019' else 'grizzly')).rename(path/year/'img')
    old = sorted((path/'2019/img').glob('*.jpg'))[0]
    new = Path(shutil.copy(old, path/'2020/img/again.jpg'))
    table = find_issues(bare(path)).set_index('photo')
    for a, b in (old, new), (new, old):
        assert any(o.startswith(f'the same photo as {b.relative_to(path).as_posix()}, where') for o in table.reasons[a])
        assert 'two classes' in table.kinds[a] and 'duplicate' not in table.kinds[a]


# --- folders where all photos look alike from afar

def grainy(im, amount, seed):
    noise = np.random.default_rng(seed).normal(0, amount, (im.height, im.width, 1))
    return Image.fromarray((np.asarray(im) + noise).clip(0, 255).astype(np.uint8))


def digit(i):
    im = Image.new('RGB', (256, 256), (225, 225, 225))
    ImageDraw.Draw(im).text((118, 112), '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ'[i], fill=(40, 40, 40), font_size=32)
    return im


def product(i):
    "Another thing in the middle of the same table"
    rng, im = random.Random(i), Image.linear_gradient('L').resize((320, 320)).point(lambda x: 190 + x//6).convert('RGB')
    draw = (ImageDraw.ImageDraw.ellipse, ImageDraw.ImageDraw.rectangle)[i % 2]
    x, y = (rng.randint(12, 26) for _ in range(2))
    draw(ImageDraw.Draw(im), (160-x, 160-y, 160+x, 160+y), fill=tuple(rng.randint(30, 180) for _ in range(3)))
    return grainy(im, 2, i)


def form(i):
    "A page of which only what was filled in differs"
    rng, im = random.Random(i), Image.new('RGB', (340, 480), (250, 249, 245))
    pen = ImageDraw.Draw(im)
    pen.text((30, 20), 'ACME Ltd. FORM', fill='black', font_size=22)
    for n, y in enumerate(range(70, 440, 30)):
        pen.rectangle((120, y, 310, y+20), outline='black')
        pen.text((30, y+4), f'Field {n}', fill='black', font_size=12)
        if n % 3 == 0: pen.text((126, y+3), ''.join(rng.choices('abcdefgh0123', k=12)), fill='navy', font_size=13)
    return im


def scan(i):
    "A grey picture as of an X-ray machine, with a spot elsewhere in each"
    rng, (y, x) = random.Random(i), np.mgrid[:256, :256]/256
    grey = 90 + 60*np.exp(-((x-.5)**2 + (y-.5)**2)*5)
    at = rng.uniform(.3, .7), rng.uniform(.3, .7)
    grey -= 25*np.exp(-((x-at[0])**2 + (y-at[1])**2)/.03**2)
    return grainy(Image.fromarray(grey.astype(np.uint8)).convert('RGB'), 2, i)


def frame(i):
    "What a camera sees that never moves: the same wood at night, another animal in a corner"
    rng, wood = random.Random(i), random.Random(99)
    im = grainy(Image.linear_gradient('L').resize((384, 288)).point(lambda x: 30 + x//4).convert('RGB'), 12, 5)
    pen = ImageDraw.Draw(im)
    for _ in range(14):
        x = wood.randint(0, 384)
        pen.line((x, 0, x + wood.randint(-20, 20), 288), fill=(wood.randint(10, 60),)*3, width=wood.randint(2, 8))
    x, y = rng.choice([40, 330]) + rng.randint(-9, 9), rng.choice([60, 260])
    a, b = rng.randint(12, 26), rng.randint(8, 14)
    pen.ellipse((x-a, y-b, x+a, y+b), fill=(rng.randint(140, 220),)*3)
    return grainy(im, 4, i)


def saved(im):
    b = io.BytesIO(); im.save(b, 'JPEG', quality=60)
    return Image.open(b).convert('RGB')


ALIKE = digit, product, form, scan, frame
AGAIN = dict(saved=saved, smaller=lambda im: im.resize((im.width*2//3, im.height*2//3), Image.Resampling.LANCZOS),
             brighter=lambda im: ImageEnhance.Brightness(im).enhance(1.1),
             cut=lambda im: im.crop((6, 4, im.width-3, im.height-5)))


@pytest.mark.parametrize('make', ALIKE)
def test_where_all_photos_look_alike_only_copies_are_called_so(make, tmp_path):
    "By their hashes, some of them may be copies"
    (tmp_path/'a').mkdir()
    photos = [make(i) for i in range(5)]
    for i, im in enumerate(photos): im.save(tmp_path/f'a/{i}.png')
    hashes = [perceptual_hash(o) for o in photos]
    assert any(hash_distance(a, b) <= ASKED for i, a in enumerate(hashes) for b in hashes[:i])
    assert found(tmp_path) == []
    for i, (how, again) in enumerate(AGAIN.items()): again(photos[i]).save(tmp_path/f'a/{how} {i}.png')
    assert {(o[0], o[2]) for o in found(tmp_path)} == {(f'a/{how} {i}.png', f'nearly the same as a/{i}.png')
                                                       for i, how in enumerate(AGAIN)}


def test_a_line_of_text_on_a_photo_is_no_other_photo():
    "A caption and a watermark on a picture full of detail; the same text on a plain ground is what differs"
    bear, plain = draw_bear('grizzly', 3, 256), digit(0)
    def written(im, fill, strip):
        im = im.copy(); pen = ImageDraw.Draw(im)
        if strip: pen.rectangle((0, 236, 256, 256), fill='white')
        pen.text((20, 238), 'a bear in the woods', fill=fill, font_size=14)
        return im
    assert all(same_picture(bear, written(bear, *o)) for o in [('black', True), ('white', False)])
    assert not same_picture(plain, written(plain, 'black', False))


def test_the_hands_of_the_course_are_no_copies(shared):
    "All on one plain ground; two of them, of which one wears a bracelet, are within `NEAR`"
    assert not [r for r in verify(shared/'signs').rows if r[4]]


def test_the_copies_among_the_plants(shared):
    "Each was looked at"
    twins = {frozenset((r[0].file[-7:], r[4].file[-7:])) for r in verify(shared/'plants').rows if r[4]}
    assert twins == {frozenset(f'{o}.jpg' for o in pair.split()) for pair in
                     ('005 017', '006 037', '022 043', '036 044', '013 052')}


@pytest.fixture
def folder(tmp_path):
    "36 drawn bears, eight of them with a smaller, cropped, brighter or wrongly labelled copy: folder, its photos"
    path, rng = tmp_path/'bears', random.Random(4)
    for i in range(36):
        kind = CLASSES[i % 3]
        (path/kind).mkdir(parents=True, exist_ok=True)
        (im := draw_bear(kind, i, 160)).save(path/kind/f'{i}.png')
        ways = {0: im.resize((120, 120)), 1: im.crop((0, 0, 155, 155)), 2: ImageEnhance.Brightness(im).enhance(1.1)}
        if i < 6: ways[i % 3].save(path/kind/f'{i} copy.png')
        if 6 <= i < 8: im.save(path/rng.choice(CLASSES)/f'{i} across.png')
    return path, compared(check_folder(path, measures=MARKS))


def names(found): return [(o.file, finding, twin.file, words) for o, finding, twin, words in found]


def asked(monkeypatch):
    "A list that gets, for each time that photos are compared, how many"
    times, real = [], copies._compare
    monkeypatch.setattr(copies, '_compare', lambda photos, root: times.append(len(photos)) or real(photos, root))
    return times


def test_what_was_found_before_is_what_would_be_found_now(folder, monkeypatch, tmp_path):
    "Whatever has come, gone, or got another name or class since"
    path, photos = folder
    monkeypatch.setenv('BEARCLF_CACHE', str(tmp_path/'cache'))
    times, rng = asked(monkeypatch), random.Random(0)
    assert len(names(copies.near_copies(photos, path))) == 8 and times == [44]
    for step in range(25):
        here = sorted(rng.sample(photos, rng.choice([40, 43, 44])), key=lambda o: o.file)
        for o in rng.sample(here, rng.choice([0, 1, 2])): o.label = rng.choice(CLASSES)
        if step % 5 == 0: os.rename(path/(o := here.pop()).file, path/f'{step}.png'); o.file = f'{step}.png'
        again = names(copies.near_copies(here, path))
        for o in (tmp_path/'cache/copies').glob('*.json'): o.rename(o.with_suffix('.aside'))
        assert names(copies.near_copies(here, path)) == again
        for o in (tmp_path/'cache/copies').glob('*.aside'): os.replace(o, o.with_suffix('.json'))
    kept, fresh = times[1::2], times[2::2]
    assert sum(o < n for o, n in zip(kept, fresh)) >= 10, 'of some only what has changed was compared'


def test_the_twins_of_a_report_are_looked_for_once(folder):
    path, _ = folder
    report = check_folder(path, measures=MARKS)
    found = twins_in(report)
    assert found == twins(compared(report), path) and len(found) == 8 and twins_in(report) is found
    assert report == replace(report), 'what was found of it makes no other report of it'
    fewer = replace(report, photos=report.photos[:20])
    assert twins_in(fewer) == twins(compared(fewer), path) and len(compared(fewer)) == 20


def test_copies_that_are_known_are_not_compared_again(folder, monkeypatch, tmp_path):
    "Nor those that are left when a photo without copies is gone; what was found of a damaged note is found again"
    path, photos = folder
    monkeypatch.setenv('BEARCLF_CACHE', str(tmp_path/'cache'))
    times, alone = asked(monkeypatch), [o for o in photos if '30' in o.file]
    first = names(copies.near_copies(photos, path))
    rest = [o for o in photos if o not in alone]
    assert names(copies.near_copies(photos, path)) == names(copies.near_copies(rest, path)) == first
    assert times == [44, 0, 0] and len(alone) == 1
    note, = (tmp_path/'cache/copies').glob('*.json')
    for damaged in '', '[]', '{"photos": [3], "found": []}', '{"photos": [], "found": [[1, "near duplicate", 2]]}':
        note.write_text(damaged)
        assert names(copies.near_copies(photos, path)) == first and times.pop() == 44


def test_a_photo_that_cannot_be_read_for_now_is_asked_again(folder, monkeypatch, tmp_path):
    path, photos = folder
    monkeypatch.setenv('BEARCLF_CACHE', str(tmp_path/'cache'))
    monkeypatch.setattr(copies._Pixels, 'said', {})
    os.rename(path, away := tmp_path/'on a disk that is not there')
    forget()
    shutil.rmtree(tmp_path/'cache', ignore_errors=True)
    assert len(copies.near_copies(photos, path)) < 8
    os.rename(away, path)
    assert len(copies.near_copies(photos, path)) == 8


def test_what_lies_before_is_left_out():
    index, rng = copies.HashIndex(), random.Random(1)
    hashes = [f'{rng.getrandbits(576):0144x}' for _ in range(100)]
    for i, h in enumerate(hashes): index.add(h, i)
    index.add(hashes[3], 'again')
    assert index.near(hashes[3]) == [(3, 0), ('again', 0)]
    assert index.near(hashes[3], since=3) == [(3, 0), ('again', 0)] and index.near(hashes[3], since=4) == [('again', 0)]
