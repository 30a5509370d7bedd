"The map of photos: its numbers, what Python answers, and its page in Voilà and JupyterLab, in a real browser"
import json, os, shutil
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np, pytest

import test_loop
from test_loop import Lab, Voila, drawn, loop, photos, said, shown, snapshot
from bearclf.clean.loop import CleaningLoop
from bearclf.clean.map import directions, in_square, photo_map, same_label
from bearclf.core import BearclfError
from bearclf.folder.moves import ASIDE, DELETE, HOME, KEEP

CELL = test_loop.CELL.split('import time')[0] + 'from bearclf.clean.map import *\nloop.map()'


# --- numbers

def clouds(n=150, d=40, seed=0):
    "Rows of three clouds, and which cloud each is of"
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, n)
    return (rng.normal(size=(n, d)) + 4*rng.normal(size=(3, d))[y]).astype(np.float32), y


def test_neighbours_on_the_map_are_alike():
    x, y = clouds()
    whole, part = photo_map(x), photo_map(x, part=60)
    for xy in whole, part, photo_map(x, quick=True):
        assert xy.shape == (150, 2) and xy.dtype == np.float32 and 0 <= xy.min() and xy.max() <= 1
    assert same_label(whole, y).mean() > .95 and same_label(part, y).mean() > .9
    assert same_label(np.random.default_rng(1).random((150, 2)), y).mean() < .5, 'places by lot are found out'
    assert (photo_map(x) == whole).all() and (photo_map(x, part=60) == part).all(), 'same seed, same map'
    assert (photo_map(x, seed=1) != whole).any()


@pytest.mark.parametrize('x', (np.ones((9, 4)), np.ones((5, 1)), np.arange(5)[:, None], np.eye(7), np.zeros((0, 8)),
                               np.ones((1, 3)), np.repeat(np.eye(3), 30, 0), np.zeros((40, 3))), ids=lambda o: o.shape)
def test_rows_that_say_little(x):
    xy = photo_map(x)
    assert xy.shape == (len(x), 2) and np.isfinite(xy).all() and ((0 <= xy) & (xy <= 1)).all()


def test_rows_that_are_none():
    with pytest.raises(BearclfError, match='row of numbers'): photo_map(np.ones(4))
    with pytest.raises(BearclfError, match='not finite'): photo_map(np.full((4, 4), np.nan))


def test_same_label_counts_neighbours():
    xy = np.array([[0, 0], [0, 1], [0, 2], [9, 0], [9, 1], [9, 2]])
    assert same_label(xy, list('aabbbb'), 2).tolist() == [.5, .5, 0, 1, 1, 1]
    assert same_label(xy[:1], ['a']).tolist() == [1]


def test_the_shape_of_a_map_is_kept():
    xy = in_square(np.array([[0., 0], [4, 1], [2, .5]]))
    assert np.allclose(xy, [[0, .375], [1, .625], [.5, .5]])


def test_directions_say_nothing_of_a_unit_or_of_contrast():
    x, _ = clouds()
    assert np.allclose(np.linalg.norm(directions(x), axis=1), 1, atol=1e-5)
    assert np.allclose(directions(x), directions(100*x + 7), atol=1e-3), 'measured in steps of its own spread'
    twice = directions(np.concatenate([x, 2*x - x.mean(0)]))
    assert (twice[:150]*twice[150:]).sum(1).min() > .99, 'the same photo with more contrast'


# --- in the loop

def ask(view, do, **more):
    heard = []
    view.send = lambda msg, buffers=(): heard.append(msg | dict(buffers=buffers))
    view._received(view, dict(do=do, view=1, round=view.loop.round) | more, [])
    for o in view.mapping, view.judging: o.submit(lambda: None).result()
    return {o['kind']: o for o in heard}


def test_many_are_decided_in_one_write_and_come_back(loop, photos):
    view, before, journal = loop.map(), snapshot(photos), photos/HOME/'history.jsonl'
    loop.decide(loop.issues.photo[0], 'grizzly')
    fifty, written = list(range(50)), []
    real = type(loop.decisions).append
    loop.decisions.append = lambda *events: written.append(len(events)) or real(loop.decisions, *events)
    told = ask(view, 'decide_many', ids=fifty, what=DELETE)['decided']
    assert written == [50] and told['pending'] == 50 and told['back'] == 50
    assert dict(told['decided']) == dict.fromkeys(fifty, DELETE) and snapshot(photos) == before
    told = ask(view, 'take_back')['decided']
    assert len(written) == 2 and dict(told['decided']) == {0: 'grizzly'}, 'what was decided before stands again'
    ask(view, 'decide_many', ids=fifty, what=DELETE)
    gone = [o.relative_to(photos).as_posix() for o in loop.issues.photo[:50]]
    assert '50 photos were moved' in ask(view, 'apply')['done']['text']
    assert not {*gone} & snapshot(photos).keys() and len(snapshot(photos)) == len(before) - 50
    assert 'put back' in ask(view, 'undo')['done']['text'] and snapshot(photos) == before
    assert len(loop.decisions.pending) == 50 and journal.exists()
    nine = [loop.at[o] for o in loop.decisions.pending if o in loop.at][:9]
    told = ask(view, 'drop_many', ids=nine)['decided']
    assert told['back'] == 9 and told['pending'] == 41 and ask(view, 'take_back')['decided']['pending'] == 50


def test_if_one_cannot_be_none_is(loop, photos):
    view = loop.map()
    loop.issues.photo[1].rename(photos/'elsewhere.jpg')
    heard = ask(view, 'decide_many', ids=[0, 1, 2], what=DELETE)
    assert 'problem' in heard and not loop.decisions.pending and view.before == (0, {})
    assert 'judged anew' in ask(view, 'decide_many', ids=[0], what=KEEP, round=loop.round - 1)['problem']['text']
    assert 'cannot be' in ask(view, 'decide_many', ids=[0], what='..')['problem']['text']


def test_a_photo_stays_where_it_is(loop, photos):
    view = loop.map(seed=3)
    heard = ask(view, 'map')
    first = heard['map']
    xy = np.frombuffer(heard['places']['buffers'][0], np.float32).reshape(-1, 2)
    assert first['total'] == len(loop.issues) == len(xy) and first['names'][0] == loop._name(loop.issues.photo[0])
    assert (np.frombuffer(first['buffers'][0], np.float32) != xy.ravel()).any(), 'first a quick one'
    labels = [first['groups']['label'][i] for i in np.frombuffer(first['buffers'][1], np.uint16)]
    assert labels == list(loop.issues.label) and f"{same_label(xy, labels).mean():.1%}" in heard['places']['text']
    assert (CleaningLoop(loop.learn)._places(3) == xy).all(), 'same seed, same map'
    was = {loop._holds(o): tuple(p) for o, p in zip(loop.issues.photo, xy)}
    ask(view, 'decide_many', ids=[0, 1], what='black' if loop.issues.label[0] != 'black' else 'grizzly')
    ask(view, 'apply')
    now = {loop._holds(o): tuple(p) for o, p in zip(loop.issues.photo, loop._places(3))}
    both = was.keys() & now.keys()
    assert len(both) > 40 and all(was[o] == now[o] for o in both), 'also in the next round, also if it was moved'


def test_more_like(loop, photos):
    photo = loop.issues.photo[5]
    shutil.copy(photo, photos/'black/a copy.jpg')
    loop.look()
    if photos/'black/a copy.jpg' not in loop.at or photo not in loop.at: loop.apply()
    found = loop.more_like(photo, 6)
    assert found.photo[0] == photos/'black/a copy.jpg' and found.nearness[0] == 'nearly the same picture'
    assert found.distance.is_monotonic_increasing and len(found) == 6 and photo not in {*found.photo}
    assert list(found.label) == [o.parent.name for o in found.photo]
    assert len(loop.more_like(photo, 10**6)) == len(loop.issues) - 1 and len(loop.more_like(photo, 0)) == 0
    loop.decide(photo, DELETE)
    loop.decide_like(photo, found.photo)
    assert loop.decisions.pending == dict.fromkeys([photo, *found.photo], DELETE)
    loop.decisions.drop()
    loop.decide_like(photo, found.photo)
    label = photo.parent.name
    assert loop.decisions.pending == {o: KEEP if o.parent.name == label else label for o in found.photo}
    with pytest.raises(BearclfError, match='not among'): loop.more_like('nothing.jpg')


def test_a_page_that_knows_no_widgets(loop, monkeypatch):
    from bearclf.clean import map as module
    monkeypatch.setattr(module, 'widgets_unknown', lambda: 'Load <b> again.')
    assert loop.map().value == 'Load &lt;b&gt; again.'


# --- in a browser

def mapped(browser, tmp_path, photos, place, **kw):
    return shown(browser, tmp_path, photos, place, cell=CELL, ready='.bearclf-map[data-map=done]', **kw)


def head(page): return page.locator('.bearclf-map .head b').inner_text()

def wait_head(page, part):
    page.wait_for_function('t => document.querySelector(".bearclf-map .head b").textContent.includes(t)', arg=part)

def box(page):
    page.locator('.bearclf-map .upper').scroll_into_view_if_needed()
    return page.locator('.bearclf-map .upper').bounding_box()

def around(page, x0, y0, x1, y1):
    "Draw a line around a part of the map, given from 0 to 1"
    b = box(page)
    corners = [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]
    at = [(b['x'] + x*b['width'], b['y'] + y*b['height']) for x, y in corners]
    page.mouse.move(*at[0]), page.mouse.down()
    for o in at[1:]: page.mouse.move(*o, steps=4)
    page.mouse.up()

DOT = """() => {
  const c = document.querySelector('.bearclf-map .base'), w = c.width, r = devicePixelRatio;
  const d = c.getContext('2d').getImageData(0, 0, w, c.height).data, full = (k) => d[4 * k + 3] > 200;
  for (let i = w * Math.floor(c.height / 2); i < d.length / 4; i++) {
    if (full(i) && full(i + 2) && full(i + 2 * w)) return [(i % w + 1) / r, (Math.floor(i / w) + 1) / r];
  }
}"""

def dot(page):
    "Where on the page a photo is drawn"
    b, (x, y) = box(page), page.evaluate(DOT)
    return b['x'] + x, b['y'] + y


@pytest.mark.parametrize('place', (Voila, Lab))
def test_fifty_with_one_line(browser, tmp_path, photos, place):
    before = snapshot(photos)
    with mapped(browser, tmp_path, photos, place) as v:
        page = v.page
        around(page, .01, .01, .99, .99)
        wait_head(page, 'selected')
        n = int(head(page).split()[0])
        assert n >= 50 and page.locator('.bearclf-map .rows tr').count() == 24
        page.locator('.bearclf-map .bar').get_by_role('button', name='Delete').click()
        said(page, f'Decided about {n} photos')
        lines = (photos/HOME/'history.jsonl').read_text().splitlines()
        written = [o for o in (json.loads(o[o.index('{'):]) for o in lines) if o['do'] == 'decide']
        assert len(written) == n and len({o['when'] for o in written}) == 1, 'one write'
        page.get_by_role('button', name=f'Take the last back ({n})').click()
        page.get_by_role('button', name='Take the last back (0)').wait_for()
        page.locator('.bearclf-map .bar').get_by_role('button', name='Delete').click()
        assert snapshot(photos) == before, 'nothing moves before it is applied'
        page.get_by_role('button', name=f'Apply {n} decisions').click()
        said(page, 'Round 2')
        assert len(snapshot(photos)) == len(before) - n
        assert len([o for o in (photos/ASIDE).rglob('*.jpg')]) == n
        page.get_by_role('button', name='Undo the last apply').click()
        said(page, 'put back')
        assert snapshot(photos) == before, 'byte for byte'
        assert {urlsplit(o).hostname for o in v.asked if not o.startswith(('data:', 'blob:'))} == {'127.0.0.1'}


@pytest.mark.parametrize('place', (Voila, Lab))
def test_hand_and_keys(browser, tmp_path, photos, place):
    odd = photos/'мишка/<img src=x onerror="window.hacked=1">.jpg'
    next((photos/'мишка').glob('*.jpg')).rename(odd)
    with mapped(browser, tmp_path, photos, place, width=1280) as v:
        page, shown_tip = v.page, '.bearclf-map .tip:not([hidden]) img'
        page.mouse.move(*dot(page))
        page.wait_for_selector(shown_tip)
        assert page.locator(shown_tip).evaluate('o => o.decode().then(() => o.naturalWidth)') > 50
        name = page.locator('.bearclf-map .tip .file').inner_text()
        assert (photos/name).is_file()
        page.mouse.down(), page.mouse.up()
        here = page.locator('.bearclf-map .rows tr[aria-current=true]')
        assert here.locator('.file').inner_text() == name, 'a click on the map finds it in the table'
        here.get_by_role('button', name='more like').click()
        wait_head(page, '24 photos selected')
        assert page.locator('.bearclf-map .rows .near').count() == 24
        page.locator('.bearclf-map .bar').get_by_role('button', name='Like that one').click()
        said(page, 'Decided about 24 photos')
        page.get_by_role('button', name='Take the last back (24)').click()
        page.get_by_role('button', name='Select none').click()
        wait_head(page, 'All')
        drawn_before = page.evaluate('document.querySelector(".bearclf-map .upper").toDataURL()')
        page.locator('.bearclf-map .rows tr').nth(3).locator('.about').click()
        page.wait_for_function('o => document.querySelector(".bearclf-map .upper").toDataURL() !== o', arg=drawn_before)
        at = page.locator('.bearclf-map .rows tr').nth(3).locator('.file').inner_text()
        assert page.locator('.bearclf-map .live').text_content().startswith(at), 'a click in the table finds it'
        page.locator('.bearclf-map .upper').focus()
        page.keyboard.press('g')
        wait_head(page, '11 photos selected')
        page.keyboard.press('d')
        said(page, 'Decided about 11 photos')
        page.keyboard.press('u')
        page.get_by_role('button', name='Take the last back (0)').wait_for()
        page.keyboard.press('Escape')
        wait_head(page, 'All')
        for o in 'ArrowLeft', 'ArrowUp', 'ArrowRight', 'ArrowDown': page.keyboard.press(o)
        page.keyboard.press(' ')
        wait_head(page, '1 photo selected')
        found = page.locator('.bearclf-map .live').text_content().split(',')[0]
        assert page.locator('.bearclf-map .rows .file').all_inner_texts() == [found]
        page.keyboard.press('Enter')
        page.wait_for_selector('.bearclf-map dialog[open] img')
        page.keyboard.press('Escape')
        page.keyboard.press('Escape')
        wait_head(page, 'All')
        page.locator('.bearclf-map .rows input').nth(1).check()
        page.locator('.bearclf-map .rows input').nth(2).check()
        wait_head(page, '2 photos selected')
        assert page.locator('.bearclf-map .bar .which').inner_text() == 'Selected: 2 photos'
        total = sum(int(t) for t in page.locator('.bearclf-map .key span').all_inner_texts())
        assert total > 50
        for o in 'prediction', 'score', 'split', 'decision', 'label':
            page.get_by_label('coloured by').select_option(o)
            each = [int(t) for t in page.locator('.bearclf-map .key span').all_inner_texts()]
            assert sum(each) == total, 'each photo has one colour'
        while page.get_by_text(odd.name).count() == 0: page.get_by_label('next page').click()
        assert page.evaluate('window.hacked') is None and not page.locator('.bearclf-map .rows img[src=x]').count()
        if place is Lab: return
        for width in 390, 1280:
            for scheme in 'light', 'dark':
                page.set_viewport_size(dict(width=width, height=900))
                page.emulate_media(color_scheme=scheme)
                assert page.evaluate('document.documentElement.scrollWidth <= innerWidth')
                if os.environ.get('SHOTS'):
                    page.wait_for_timeout(300)
                    page.screenshot(path=f"{os.environ['SHOTS']}/{width}_{scheme}.png", full_page=True)
