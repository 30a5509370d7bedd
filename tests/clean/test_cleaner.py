"PhotoCleaner: fastai's own delete() and change() on choices that stay, also in a real browser and in a new kernel"
import shutil
from contextlib import contextmanager

import nbformat, pytest
from fastai.vision.widgets import ImageClassifierCleaner, ImagesCleaner, Output
from nbformat.v4 import new_code_cell, new_notebook

from helpers import LONG, free_port
from test_loop import Lab, Voila, serving
from bearclf.clean.cleaner import PhotoCleaner
from bearclf.clean.decisions import DELETE, KEEP
from bearclf.clean.issues import find_issues
from bearclf.clean.loop import CleaningLoop
from bearclf.core import BearclfError
from bearclf.folder.look import class_of, find_photos
from bearclf.practice.drawn import draw_bears
from bearclf.train.data import photo_dls
from bearclf.train.learner import photo_learner


@pytest.fixture(scope='module')
def drawn(tmp_path_factory):
    path = tmp_path_factory.mktemp('drawn')/'мои bears'
    draw_bears(path, 60, 64, seed='cleaner', mislabelled=5, two_bears=1)
    (path/'planted.csv').unlink()
    return path


@pytest.fixture
def photos(drawn, tmp_path): return shutil.copytree(drawn, tmp_path/'мои bears')


def learner(path): return photo_learner(photo_dls(path, 64, num_workers=0), pretrained=False)


@pytest.fixture
def cleaner(photos): return PhotoCleaner(learner(photos), max_n=9)


@pytest.fixture
def plain(photos, monkeypatch):
    monkeypatch.setattr('fastai.vision.widgets.widget', lambda im, **kw: Output())  # no page to show it on
    learn = learner(photos)
    with learn.no_bar(): return ImageClassifierCleaner(learn, max_n=5)


def menus(cleaner): return [o.children[1] for o in cleaner.iw.widget.children]


def chapter(cleaner, path):
    "The chapter's two lines"
    for idx in cleaner.delete(): cleaner.fns[idx].unlink()
    for idx,cat in cleaner.change(): shutil.move(str(cleaner.fns[idx]), path/cat)


def test_it_is_fastais(cleaner):
    assert isinstance(cleaner, ImageClassifierCleaner) and isinstance(cleaner.iw, ImagesCleaner)
    ours = vars(PhotoCleaner) | vars(type(cleaner.iw))
    assert not {'delete', 'change', 'on_change_ds'} & ours.keys()
    assert cleaner.dd_cats.options == ('black', 'grizzly', 'teddy') and cleaner.dd_ds.options == ('Train', 'Valid')
    assert menus(cleaner)[0].options == ('<Keep>', '<Delete>', *cleaner.dd_cats.options)


def test_choices_stay_and_a_switch_forgets_none(cleaner, photos):
    first, second = cleaner.fns[:2]
    menus(cleaner)[0].value, menus(cleaner)[1].value = DELETE, 'teddy'
    assert first.name in (photos/'.bearclf/history.jsonl').read_text(encoding='utf-8')
    cleaner.dd_cats.value = 'grizzly'
    menus(cleaner)[2].value = 'black'
    assert (cleaner.delete(), cleaner.change()) == ([], [(2, 'black')])
    cleaner.dd_ds.value = 'Valid'
    assert (cleaner.delete(), cleaner.change()) == ([], [])
    cleaner.dd_ds.value, cleaner.dd_cats.value = 'Train', 'black'
    assert [o.value for o in menus(cleaner)[:3]] == [DELETE, 'teddy', KEEP]
    again = PhotoCleaner(learner(photos))
    assert (again.delete(), again.change()) == ([again.fns.index(first)], [(again.fns.index(second), 'teddy')])
    menus(cleaner)[0].value = KEEP
    assert cleaner.delete() == [] and cleaner.iw.said.value.endswith(' 2')
    assert len(find_photos(photos)) == 60, 'nothing has moved'


def test_pages_hold_all_photos_the_most_suspect_first(cleaner):
    table = find_issues(cleaner_learn := learner(cleaner.decisions.path))
    wanted = [o.photo for o in table.itertuples() if o.label == 'black' and o.split == 'train']
    assert list(cleaner.fns) == wanted and len(wanted) > 9 and len(menus(cleaner)) == 9
    menus(cleaner)[8].value = DELETE
    cleaner.iw.turns[1].click()
    assert 'page 2 of' in cleaner.iw.said.value and len(menus(cleaner)) == min(9, len(wanted)-9)
    menus(cleaner)[0].value = DELETE
    assert cleaner.delete() == [8, 9], 'those of another page count'
    row, text = table[table.photo == wanted[9]].iloc[0], cleaner.iw.widget.children[0].children[0].children[1].value
    assert f'taken for <b>{row.prediction}</b>' in text and wanted[9].name in text
    assert cleaner_learn.dls.vocab == cleaner.dd_cats.options


def test_the_chapters_own_lines(cleaner, photos):
    a, b = cleaner.fns[:2]
    menus(cleaner)[0].value, menus(cleaner)[1].value = DELETE, 'teddy'
    chapter(cleaner, photos)
    assert not a.exists() and not b.exists() and (photos/'teddy'/b.name).is_file()
    chapter(cleaner, photos)  # again: nothing is left to do
    menus(cleaner)[0].value = 'teddy'
    assert menus(cleaner)[0].value == KEEP, 'a menu claims nothing that is not noted'
    assert a.name in cleaner.iw.note.value
    cleaner.dd_cats.value = 'teddy'; cleaner.dd_cats.value = 'black'
    assert a not in cleaner.fns and b not in cleaner.fns
    again = PhotoCleaner(learner(photos))
    again.dd_cats.value = 'teddy'
    both = [*again.fns, *(setattr(again.dd_ds, 'value', 'Valid') or again.fns)]
    assert photos/'teddy'/b.name in both and (again.delete(), again.change()) == ([], [])


def test_the_loop_takes_a_plain_cleaner(plain, photos, tmp_path):
    loop = CleaningLoop(learner(photos))
    menus(plain)[0].value, menus(plain)[1].value = DELETE, 'teddy'
    first, second = plain.fns[:2]
    assert loop.take(plain) == 2 and dict(loop.decisions.pending) == {first: DELETE, second: 'teddy'}
    plain.dd_cats.value = 'grizzly'
    assert loop.take(plain) == 0 and len(loop.decisions.pending) == 2, 'what it forgets, the loop does not'
    loop.apply()
    assert not first.exists() and (photos/'teddy'/second.name).is_file()
    loop.undo()
    assert first.exists() and second.exists()
    other = shutil.copytree(photos/'black', tmp_path/'other'/'black').parent
    shutil.copytree(photos/'teddy', other/'teddy')
    plain.dd_cats.value = 'black'
    menus(plain)[2].value = DELETE
    with pytest.raises(BearclfError, match='does not lie in'): CleaningLoop(learner(other)).take(plain)
    with pytest.raises(BearclfError, match='is no cleaner'): loop.take(7)


def test_the_loop_takes_a_photo_cleaner(cleaner, photos):
    menus(cleaner)[0].value = DELETE
    cleaner.dd_cats.value = 'teddy'
    menus(cleaner)[0].value = 'black'
    loop = CleaningLoop(learner(photos))
    assert loop.take(cleaner) == 2 and loop.apply() and len(find_photos(photos)) == 59
    of_loop = PhotoCleaner(loop.learn, issues=loop.issues)
    shown = set()
    for of_loop.dd_cats.value in of_loop.dd_cats.options:
        for of_loop.dd_ds.value in of_loop.dd_ds.options: shown |= {*of_loop.fns}
    assert shown == {*loop.issues.photo} and not shown & {*loop.test}, 'those kept aside are not shown'


CELL = '''
import os
from bearclf.all import *
path = Path(os.environ['PHOTOS'])
learn = photo_learner(photo_dls(path, 64, num_workers=0), pretrained=False)
cleaner = PhotoCleaner(learn, max_n=12)
cleaner
'''
READY = '.widget-box .widget-image'


@contextmanager
def opened(browser, tmp_path, photos, place):
    nbformat.write(new_notebook(cells=[new_code_cell(CELL)],
                                metadata=dict(kernelspec=dict(name='python3', display_name='python3'))),
                   tmp_path/'loop.ipynb')
    (tmp_path/'config').mkdir()
    port = free_port()
    with serving(place.command(port), f'http://127.0.0.1:{port}/'
                 + ('api' if place is Lab else 'voila/static/voila.js'), tmp_path, photos):
        page = browser.new_page(viewport=dict(width=1280, height=900))
        page.set_default_timeout(1000*LONG)
        at = place(page, port)
        at.open()
        page.wait_for_selector(READY)
        try: yield page, at
        finally: page.close()


def menu(page, n): return page.locator('.widget-dropdown select').nth(n)  # 0 the class, 1 the split, then the photos

def picked(page, n): return menu(page, n).evaluate('o => o.options[o.selectedIndex].text')

def switch(page, label):
    "To another class, once its photos are there"
    before = page.locator('.widget-html small').first.inner_text()
    menu(page, 0).select_option(label=label)
    page.wait_for_function('b => document.querySelector(".widget-html small")?.textContent !== b', arg=before)

def noted(page, n):
    page.wait_for_function('n => document.body.innerText.includes(`in all classes: ${n}`)', arg=n)


@pytest.mark.parametrize('place', (Voila, Lab))
def test_in_a_browser_all_choices_stand(browser, tmp_path, photos, place):
    with opened(browser, tmp_path, photos, place) as (page, at):
        boxes = [o.bounding_box() for o in page.query_selector_all(READY)]
        assert len(boxes) == 12 and len({o['y'] for o in boxes}) > 1 and sum(
            o['y'] == boxes[0]['y'] for o in boxes) >= 4, 'several rows of photos'
        assert page.locator(READY).evaluate_all('l => l.every(o => o.naturalWidth > 0)')
        assert page.inner_text('body').count('taken for') == 12
        menu(page, 2).select_option(label='<Delete>'); noted(page, 1)
        menu(page, 3).select_option(label='teddy'); noted(page, 2)
        switch(page, 'grizzly')
        menu(page, 4).select_option(label='black'); noted(page, 3)
        switch(page, 'black')
        assert [picked(page, i) for i in (2, 3, 4)] == ['<Delete>', 'teddy', '<Keep>']
        page.evaluate('document.querySelectorAll(".widget-image").forEach(o => o.classList.add("old"))')
        at.new_kernel()
        page.wait_for_selector(f'{READY}:not(.old)')
        noted(page, 3)
        assert [picked(page, i) for i in (2, 3, 4)] == ['<Delete>', 'teddy', '<Keep>']
        switch(page, 'grizzly')
        assert [picked(page, i) for i in (2, 3, 4)] == ['<Keep>', '<Keep>', 'black']
    cleaner = PhotoCleaner(learner(photos))
    gone, = [cleaner.fns[i] for i in cleaner.delete()]
    (i, _), = cleaner.change()
    moved = cleaner.fns[i]
    chapter(cleaner, photos)
    assert not gone.exists() and (photos/'teddy'/moved.name).is_file() and class_of(moved) == 'black'
