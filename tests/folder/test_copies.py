"Links, and folders of one name: what is no copy at all, and what only a person can decide"
import os, shutil
from pathlib import Path

import pytest

from bearclf.clean.issues import find_issues, suggestions
from bearclf.folder.moves import undo
from bearclf.folder.verify import verify
from bearclf.practice.drawn import draw_bear, draw_bears
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
