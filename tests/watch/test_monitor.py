"The page of the alarms, and the app that writes the log: as widgets, and in a real browser"
import json, os, re, signal, subprocess, sys, threading
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace

import pytest
from ipywidgets import Button

from bearclf.cli import main
from bearclf.core import BearclfError
from bearclf.practice.drawn import draw_bear
from bearclf.ship.page import LiveHTML, PhotoUpload, connect, load_in_background
from bearclf.ship.portable import Prediction
from bearclf.ship.texts import our_texts
from bearclf.watch.log import PredictionLog
from bearclf.watch.monitor import AlarmQueue, PageLog, monitor_page, write_report
from helpers import LONG, free_port, small_disk, top

EVIL = '<img src=x onerror="window.evil=1">'


def filled(file, labels, source='camera', photos=True, **kwargs):
    "A log with an alarm for each of `labels`, the last one the newest"
    log = PredictionLog(file, **kwargs)
    for i, o in enumerate(labels):
        rest = {c: .1 for c in ('black', 'grizzly', 'teddy') if c != o}
        photo = draw_bear('teddy', seed=i, size=200) if photos else None
        log.add(Prediction(o, .8, {o: .8} | rest, True, near=.5), photo, source=source, alarm=True)
    return log

@pytest.fixture
def log(tmp_path): return filled(tmp_path/'log.db', ['black', 'grizzly', 'teddy'], photos=False)

def queue(log, who='masha'):
    q = AlarmQueue(log, who=who)
    q.wait_s = 0
    return q

def decisions(log): return log._ask('SELECT prediction, who, said FROM decisions ORDER BY id')


# --- without a browser

def test_one_after_the_other(log):
    q = queue(log)
    assert (q.yes.description, '3 alarms are open' in q.count.html) == ('Yes, teddy', True)
    q.yes.click()
    q.choice.value = 'black'
    q.no.click()
    q.choice.value = ''
    q.no.click()
    assert decisions(log) == [(3, 'masha', 'teddy'), (2, 'masha', 'black'), (1, 'masha', '')]
    assert 'No alarm is open' in q.said.html and q.buttons not in q.right.children
    log.add(Prediction('black', .8, dict(black=.8, teddy=.2), True), alarm=True)
    q.look()
    assert q.yes.description == 'Yes, black' and q.buttons in q.right.children

def test_nothing_is_decided_without_name_choice_or_time(log):
    q = queue(log, who='  ')
    for o in q.yes, q.no, q.later: o.click()
    assert 'name' in q.note.html
    q.who.value = 'masha'
    q.no.click()
    assert 'Choose' in q.note.html
    q.wait_s = 60
    q.yes.click()
    assert decisions(log) == [] and q.yes.description == 'Yes, teddy'

def test_a_double_click_decides_one(log):
    q = AlarmQueue(log, who='masha')
    q._since -= 1  # that alarm has been there for a second
    q.yes.click(), q.yes.click()
    assert decisions(log) == [(3, 'masha', 'teddy')]

def test_later(log):
    "Only looked at; it comes again when the others have been seen, and stays open"
    q = queue(log)
    seen = []
    for _ in range(4):
        seen.append(q._row['id'])
        q.later.click()
    assert seen == [3, 2, 1, 3] and {o[2] for o in decisions(log)} == {None} and len(log.open_alarms()) == 3

def test_undo_is_a_further_line(log):
    q = queue(log)
    q.yes.click()
    q.undo.click()
    assert q._row['id'] == 3 and 'holds until' in q.note.html
    q.later.click()
    assert q._row['id'] == 2
    q.undo.click()
    q.choice.value = 'black'
    q.no.click()
    assert [o for o in decisions(log) if o[2]] == [(3, 'masha', 'teddy'), (3, 'masha', 'black')]
    assert list(log.table('p.id = 3').said) == ['black']

def test_nobody_undoes_what_another_has_said(log):
    q = queue(log)
    q.yes.click()
    log.decide(3, 'black', 'anna')
    q.undo.click()
    assert q._row['id'] == 2 and 'anna' in q.note.html
    q.undo.click() if q._mine else None
    assert decisions(log) == [(3, 'masha', 'teddy'), (3, 'anna', 'black')]

def test_two_people_decide_once(log):
    a, b = queue(log, 'anna'), queue(log, 'ben')
    a.yes.click()
    b.yes.click()
    assert decisions(log) == [(3, 'anna', 'teddy')] and 'anna' in b.note.html and b._row['id'] == 2
    a.yes.click()
    b.look()
    assert b._row['id'] == 1 and 'anna' in b.note.html

def test_at_the_same_moment_one_decides(tmp_path):
    "Many threads, each with a connection of its own, about the same alarms"
    log = filled(tmp_path/'log.db', ['black']*20, photos=False)
    def one(who):
        go.wait()
        for n in range(1, 21): got[who].append(log.decide(n, 'black', who, after=0))
    got, go = {str(i): [] for i in range(6)}, threading.Barrier(6)
    threads = [threading.Thread(target=one, args=(o,)) for o in got]
    for o in threads: o.start()
    for o in threads: o.join()
    assert sorted(o[0] for o in decisions(log)) == [*range(1, 21)]
    assert all(sum(bool(got[w][i]) for w in got) == 1 for i in range(20))

def test_what_looks_like_markup_is_text(tmp_path):
    log = filled(tmp_path/'log.db', [EVIL, EVIL], source=EVIL, photos=False)
    q = queue(log, who=EVIL)
    q.yes.click()
    shown = q.said.html + q.note.html + q.last.value + q.photo.value + q.count.html
    assert '<img' not in shown and shown.count('&lt;img') > 4

def test_a_log_with_nonsense(tmp_path):
    "Numbers and texts that no model would write are shown, and the page goes on"
    log = PredictionLog(tmp_path/'log.db')
    with log._db() as db:
        for p in '{', '[]', '{"a": "b"}', '['*9000, '{"a": 1e999}', '{}':
            db.execute('INSERT INTO predictions(at, source, model, role, label, probability, sure, probabilities, '
                       'alarm, photo, near) VALUES(1e300, "", "", "live", "a", 7, 1, ?, 1, "../log.db", -1e308)', (p,))
    q = queue(log)
    for _ in range(6): q.yes.click()
    assert 'No alarm is open' in q.said.html and len(decisions(log)) == 6

def test_photo_kept_gone_or_broken(tmp_path):
    now = [1e9]
    log = filled(tmp_path/'log.db', ['black'], keep_days=1, clock=lambda: now[0])
    q = queue(log)
    assert 'data:image/jpeg' in q.photo.value and 'alt="The photo of alarm 1"' in q.photo.value
    next(log.photos.iterdir()).write_bytes(b'<svg onload=alert(1)>')
    assert 'cannot be opened' in queue(log).photo.value
    now[0] += 2*86400
    log.expire()
    assert 'deleted' in queue(log).photo.value

def test_a_log_that_is_gone_is_a_sentence(log, monkeypatch):
    q = queue(log)
    def broken(*_, **kw): raise BearclfError('There is no room left for log.db.')
    monkeypatch.setattr(log, 'decide', broken)
    q.yes.click()
    assert 'no room left' in q.note.html and q._row['id'] == 3

def test_report_button_and_file(log, tmp_path, monkeypatch, capsys):
    fake = ModuleType('bearclf.watch.report')
    fake.report = lambda log, days=7: SimpleNamespace(_repr_html_=lambda: f'<p>{log.n} in {days:g} days</p>')
    monkeypatch.setitem(sys.modules, 'bearclf.watch.report', fake)
    part = monitor_page(log).children[-1]
    part.ask.click()
    assert part.said.value == '<p>3 in 7 days</p>'
    assert main(['monitor', str(log.file), '--html', str(tmp_path/'r.html'), '--days', '3']) == 0
    text = (tmp_path/'r.html').read_text()
    assert '<p>3 in 3 days</p>' in text and text.startswith('<!DOCTYPE html>') and 'r.html' in capsys.readouterr().out
    with pytest.raises(BearclfError, match='end in .html'): write_report(log, tmp_path/'bear.jpg')

def test_on_a_full_disk_the_page_does_not_answer(tmp_path):
    with small_disk(tmp_path/'disk', 400) as disk:
        log = filled(disk/'log.db', ['black'], photos=False, keep_days=1)
        said = pages_answer(PageLog(log), tmp_path)
        assert 'teddy' in said[0].html and not said[1].note and log.n == 2
        with pytest.raises(OSError): (disk/'full').write_bytes(bytes(400_000))
        said = pages_answer(PageLog(log), tmp_path)
        assert 'teddy' not in said[0].html and said[1].note == our_texts()['en']['not_written'] and log.n == 2
        log._local.db.close()

def pages_answer(record, folder):
    "What the page says and notes about a photo"
    up, run, said, clf = PhotoUpload(), Button(), LiveHTML(), lambda _: Prediction('teddy', 1., dict(teddy=1.), True)
    connect(up, run, said, load_in_background(clf), record=record)
    draw_bear('teddy', seed=1, size=300).save(folder/'a.jpg')
    up._received(up, dict(kind='photo', name='a.jpg', seen=True), [memoryview((folder/'a.jpg').read_bytes())])
    run.click()
    return said, up

@pytest.mark.parametrize('args, said', [
    (['monitor', 'no.db'], 'There is no log no.db'), (['monitor', 'no.db', '--page'], 'There is no log no.db'),
    (['app', '--alarm', 'black'], 'need a --log'), (['app', '--site', '--log', 'log.db'], 'With --site'),
    (['app', '--log', '.'], 'is a folder'), (['app', '--log', 'log.db', '--log-photos', '-1'], '0 or more')])
def test_the_command_says_what_is_wrong(args, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(args) == 2 and said in capsys.readouterr().err
    assert not (tmp_path/'no.db').exists()

def test_an_alarm_has_to_be_a_class(demo_model, tmp_path, capsys):
    asked = ['--model', demo_model, '--log', tmp_path/'l.db', '--alarm', 'wolf', '--port', '0']
    assert main(['app', *map(str, asked)]) == 2
    assert "no 'wolf'; it knows black, grizzly, teddy" in capsys.readouterr().err


# --- in a browser

@contextmanager
def command(*args, cwd):
    "The address of what `bearclf` serves with `args`, in a process of its own"
    port, env = free_port(), {k: v for k, v in os.environ.items() if not k.startswith('BEARCLF_LOG')}
    env['PYTHONPATH'] = os.pathsep.join(filter(None, (str(top), env.get('PYTHONPATH'))))
    proc = subprocess.Popen([sys.executable, '-m', 'bearclf', *map(str, args), '--port', str(port)], cwd=cwd, env=env,
                            stdout=subprocess.PIPE, text=True)
    try:
        said = [proc.stdout.readline()]  # when the page answers; empty if it never will
        assert f':{port}/' in said[0], said
        yield re.search('http://[^ ]+', said[0])[0]
    finally:
        proc.send_signal(signal.SIGTERM)
        proc.wait(60)

@contextmanager
def visit(browser, url, **kw):
    page = browser.new_page(**dict(viewport=dict(width=1280, height=900)) | kw)
    page.set_default_timeout(1000*LONG)
    page.goto(url)
    page.wait_for_selector('.bearclf-page h1')
    try: yield page
    finally: page.close()

@pytest.fixture(scope='module')
def room(tmp_path_factory):
    "A log with alarms, one of a stranger's class, and the address of their page"
    folder = tmp_path_factory.mktemp('room')
    filled(folder/'log.db', ['black', 'grizzly', 'teddy']*6 + [EVIL, 'grizzly', 'teddy'], keep_days=2)
    with command('monitor', 'log.db', '--page', cwd=folder) as url:
        yield SimpleNamespace(url=url, log=PredictionLog(folder/'log.db'), folder=folder)

def is_open(page, n): page.wait_for_selector(f'.bearclf-facts dd:text-is("{n}")')

def press(page, name, n):
    "Press the button `name` once alarm `n` has been there for long enough"
    is_open(page, n)
    page.wait_for_timeout(700)
    page.get_by_role('button', name=name, exact=True).click()

WIDER = """w => [document.documentElement, ...document.querySelectorAll('body *')]
    .filter(o => o.scrollWidth > w || o.getBoundingClientRect().right > w + 1)
    .map(o => o.tagName + '.' + o.className)"""

def test_classified_on_one_page_and_decided_on_the_other(browser, demo_model, fresh_bears, tmp_path):
    "The whole road: a visitor's photo, the log, the alarm, a person who says no, the next alarm"
    log = filled(tmp_path/'log.db', ['black'], photos=False)
    with command('app', '--model', demo_model, '--log', 'log.db', '--log-photos', '2', '--alarm', 'grizzly', '--alarm',
                 'teddy', cwd=tmp_path) as url, visit(browser, url) as page:
        page.wait_for_selector('.bearclf-foot:has-text("kept for 2 days")')
        page.set_input_files('.bearclf-upload input[type=file]', fresh_bears['grizzly'][0])
        page.get_by_role('button', name='Classify').click()
        page.wait_for_selector('.bearclf-bars')
        row, = [o for o in log.open_alarms() if o['source'] == 'page']
        assert row['label'] == 'grizzly' and row['near'] <= 1 and log.photo(row['id'])
        page.get_by_role('button', name='Where did it look?').click()
        page.wait_for_selector('.bearclf-looked, .bearclf-right .widget-vbox p:not(.bearclf-wait)')
        assert log.n == 2, 'the covered copies are no answers'
    with command('monitor', 'log.db', '--page', cwd=tmp_path) as url, visit(browser, url) as page:
        is_open(page, row['id'])
        assert page.evaluate('document.querySelector(".bearclf-alarm img").naturalWidth') > 100
        page.get_by_label('Your name or initials').fill('masha')
        page.get_by_label('Something else?').select_option('black')
        press(page, 'No, it is black', row['id'])
        is_open(page, 1)
        page.wait_for_selector('.bearclf-last td:text-is("masha")')
        assert decisions(log) == [(row['id'], 'masha', 'black')]
        assert page.is_visible('.bearclf-none')  # the other was logged without a photo

def test_what_cannot_be_written_is_not_answered(browser, demo_model, fresh_bears, tmp_path):
    with command('app', '--model', demo_model, '--log', 'log.db', cwd=tmp_path) as url, visit(browser, url) as page:
        page.wait_for_selector('.bearclf-foot:has-text("without the photo")')
        page.set_input_files('.bearclf-upload input[type=file]', fresh_bears['teddy'][0])
        (tmp_path/'log.db').write_bytes(b'no log any more, but something else')
        page.get_by_role('button', name='Classify').click()
        page.wait_for_selector(f'.note:text-is("{our_texts()["en"]["not_written"]}")')
        assert page.query_selector('.bearclf-bars') is None

def test_new_alarms_come_by_themselves_and_others_are_not_decided_twice(browser, room):
    "Two people, each with a page of their own, and a camera that goes on"
    with visit(browser, room.url) as anna, visit(browser, room.url) as ben:
        first, second = [o['id'] for o in room.log.open_alarms()[:2]]
        for o, who in (anna, 'anna'), (ben, 'ben'): o.get_by_label('Your name or initials').fill(who)
        press(anna, 'Yes, teddy', first)
        is_open(anna, second)
        ben.wait_for_selector('.bearclf-note:has-text("anna has decided")')  # within ten seconds, without a click
        is_open(ben, second)
        press(anna, 'Yes, grizzly', second)
        press(ben, 'Yes, grizzly', second)
        ben.wait_for_selector(f'.bearclf-note:has-text("alarm {second} meanwhile")')
        said = [o for o in decisions(room.log) if o[0] >= second]
        assert said == [(first, 'anna', 'teddy'), (second, 'anna', 'grizzly')]
        is_open(ben, second - 1)
        n = len(room.log.open_alarms())
        filled(room.folder/'log.db', ['black'], photos=False)
        ben.wait_for_selector(f'.bearclf-count:has-text("{n + 1} alarms are open")')
        assert ben.inner_text('.bearclf-facts dd') == f'{second - 1}', 'what a person looks at stays'

def test_a_strangers_class_is_text(browser, room):
    n = next(o['id'] for o in room.log.open_alarms() if o['label'] == EVIL)
    with visit(browser, room.url) as page:
        page.get_by_label('Your name or initials').fill(EVIL)
        while page.inner_text('.bearclf-facts dd') != f'{n}':
            press(page, 'Later', at := page.inner_text('.bearclf-facts dd'))
            page.wait_for_function(f'() => document.querySelector(".bearclf-facts dd").textContent != "{at}"')
        assert page.inner_text('.bearclf-right h2 b') == EVIL
        page.wait_for_timeout(700)
        page.get_by_role('button', name='Yes, <img').click()
        page.wait_for_selector('.bearclf-last td:text-is("19")')
        assert page.query_selector('img[src=x]') is None and not page.evaluate('window.evil')

def test_with_the_keyboard_alone(browser, room):
    "Everything is reached with Tab, what has the focus is seen, and after a decision it is still there"
    with visit(browser, room.url) as page:
        n, label = next((o['id'], o['label']) for o in room.log.open_alarms())
        is_open(page, n)
        active = 'document.activeElement'
        def tab():
            page.keyboard.press('Tab')
            seen = page.evaluate(f'parseFloat(getComputedStyle({active}).outlineWidth)')
            assert seen >= 2, page.evaluate(f'{active}.outerHTML')
            return page.evaluate(f'{active}.textContent.slice(0, 20) || {active}.tagName')
        page.evaluate('document.body.focus()')
        assert tab() == 'INPUT'
        page.keyboard.type('masha')
        assert tab() == f'Yes, {label}'
        tab()
        page.keyboard.press('ArrowDown')
        page.wait_for_selector('button:text-matches("^No, it is [a-z]")')
        no = tab()
        page.wait_for_timeout(700)
        page.keyboard.press('Enter')
        page.wait_for_selector(f'.bearclf-note:has-text("Alarm {n} is written down")')
        assert decisions(room.log)[-1] == (n, 'masha', no.removeprefix('No, it is '))
        assert page.evaluate(f'{active}.textContent') == 'No, it is …', 'the focus stays where it was'
        assert [tab() for _ in range(4)] == ['Later', 'Refresh', 'Undo the decision ab', 'Report']
        names = [o.inner_text() for o in page.get_by_role('button').all() if o.is_visible()]
        assert all(names) and len(names) == 6
        assert page.locator('[role=status]').count() >= 3

@pytest.mark.parametrize('width', [1280, 390])
@pytest.mark.parametrize('scheme', ['light', 'dark'])
def test_nothing_is_wider_than_the_page(browser, room, width, scheme):
    with visit(browser, room.url, viewport=dict(width=width, height=900), color_scheme=scheme) as page:
        page.wait_for_selector('.bearclf-facts')
        page.wait_for_timeout(500)
        if at := os.environ.get('BEARCLF_SHOTS'): page.screenshot(path=f'{at}/{width}-{scheme}.png', full_page=True)
        assert page.evaluate(WIDER, width) == []
