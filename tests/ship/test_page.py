"""The page in a real browser, served as `bearclf app` serves it. `demo_model` and `fresh_bears` are in conftest.py."""
import base64, io, json, os, re, signal, socket, socketserver, subprocess, sys, threading
from contextlib import contextmanager, suppress
from datetime import datetime
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from types import SimpleNamespace
from urllib.parse import urlsplit
from urllib.request import urlopen

import numpy as np
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from PIL import Image

from helpers import LONG, free_port, python, top
from bearclf.core import error_text
from bearclf.ship.page import listen_at, serve

SERVE = ('import sys; from bearclf.ship.page import serve; '
         'sys.exit(serve(sys.argv[1] or None, int(sys.argv[2]), ip=sys.argv[3], base_url=(sys.argv[4:] or "/")[0]))')


@contextmanager
def served(model, cwd, ip='localhost', base='/'):
    "The address of a page with `model`, in a process of its own"
    port, env = free_port(), {k: v for k, v in os.environ.items() if k != 'BEARCLF_MODEL'}
    env['PYTHONPATH'] = os.pathsep.join(filter(None, (str(top), env.get('PYTHONPATH'))))
    proc = subprocess.Popen([sys.executable, '-c', SERVE, str(model or ''), str(port), ip, base], cwd=cwd, env=env,
                            stdout=subprocess.PIPE, text=True)
    try:
        line = proc.stdout.readline()  # said when the page answers; empty if it never will
        url = re.search(rf'http://([^/]+):{port}{base}(?= )', line)
        assert url and (url[1] == ip or ip == '0.0.0.0'), f'the page did not start, it said: {line!r}'
        yield url[0]
    finally:
        proc.send_signal(signal.SIGTERM)
        proc.wait(60)


WITHOUT = '''
import os
from importlib.machinery import PathFinder
missing, find = set(os.environ['MISSING'].split(',')), PathFinder.find_spec
PathFinder.find_spec = lambda name, path=None, target=None: (
    None if name.split('.')[0] in missing else find(name, path, target))
'''

def brought():
    "The packages that come with bearclf, without an extra"
    todo, found = [('bearclf', frozenset(['']))], set()
    while todo:
        name, extras = todo.pop()
        if (name, extras) in found: continue
        try: needs = [Requirement(o) for o in requires(name) or []]
        except PackageNotFoundError: continue
        found.add((name, extras))
        todo += [(canonicalize_name(o.name), frozenset(['', *o.extras])) for o in needs if not o.marker
                 or any(o.marker.evaluate(dict(extra=e)) for e in extras)]
    return {o for o, _ in found} | {'pip', 'setuptools'}


@pytest.fixture(scope='module')
def address(demo_model, tmp_path_factory):
    with served(demo_model, tmp_path_factory.mktemp('cwd')) as url: yield url

@contextmanager
def visit(browser, url, width=1280, height=800, **kw):
    "The page as a visitor sees it, once its heading is there; `asked` has every address that the browser asked for"
    page, asked = browser.new_page(viewport=dict(width=width, height=height), **kw), []
    page.set_default_timeout(1000*LONG)
    page.on('request', lambda r: asked.append(r.url))
    page.on('websocket', lambda w: asked.append(w.url))
    page.goto(url, timeout=1000*LONG)
    page.wait_for_selector('.bearclf-page h1')
    try: yield SimpleNamespace(page=page, asked=asked)
    finally: page.close()

@pytest.fixture(scope='module')
def visitor(browser, address):
    "One visitor for many tests: that the page stays alive from one to the next is part of what is tested"
    with visit(browser, address) as v: yield v


def choose(page, file): page.set_input_files('.bearclf-upload input[type=file]', file)

def as_file(name, data): return dict(name=name, mimeType='image/jpeg', buffer=data)

def answer(page, name):
    "Click *Classify* and read the answer for the photo `name`: the label, and (class, width of its bar, share)"
    page.get_by_role('button', name='Classify').click()
    page.wait_for_selector(f'.bearclf-of:text-is("{name}")')
    rows = [(o.query_selector('.name').inner_text(), o.query_selector('.track i').bounding_box()['width'],
             o.query_selector('.share').inner_text())
            for o in page.query_selector_all('.bearclf-bars li')]
    return page.inner_text('.bearclf-page h2 b'), rows

def check_good_bear(page, fresh_bears, label, i=0):
    "A good photo of a bear is answered, with every class as a bar, in order"
    path = fresh_bears[label][i % len(fresh_bears[label])]
    choose(page, path)
    said, rows = answer(page, path.name)
    names, widths, shares = zip(*rows)
    assert said == names[0] == label
    assert sorted(names) == sorted(fresh_bears)
    assert list(widths) == sorted(widths, reverse=True) and widths[0] > widths[-1]
    assert all(o.endswith('%') for o in shares)
    assert page.inner_text('.bearclf-upload .note') == ''

def check_sentence(page, *words):
    "The page shows a sentence with `words`, has no answer, and still says something after a click on *Classify*"
    page.wait_for_function('() => document.querySelector(".bearclf-upload .note").textContent')
    page.wait_for_selector('.bearclf-bars', state='detached')  # an old answer goes away
    page.wait_for_selector('.bearclf-go:enabled').click()
    page.wait_for_timeout(500)  # time to do something wrong
    said = page.inner_text('.bearclf-upload .note')
    assert all(o in said for o in words), said
    assert page.query_selector('.bearclf-bars') is None


def test_each_class_without_reloading(visitor, fresh_bears):
    before = visitor.page.evaluate('window.sameVisit = true')
    for label in fresh_bears: check_good_bear(visitor.page, fresh_bears, label)
    assert before and visitor.page.evaluate('window.sameVisit')

def test_photo_and_bars_are_seen(visitor, fresh_bears):
    label = next(iter(fresh_bears))
    check_good_bear(visitor.page, fresh_bears, label, 1)
    assert visitor.page.is_visible('.bearclf-upload .zone img')
    assert visitor.page.evaluate('document.querySelector(".bearclf-upload .zone img").naturalWidth') > 0
    assert visitor.page.get_attribute('.bearclf-live:has(.bearclf-bars)', 'role') == 'status'

def test_classify_without_a_photo(browser, address):
    with visit(browser, address) as v:
        v.page.get_by_role('button', name='Classify').click()
        check_sentence(v.page, 'Choose a photo')

def bad_files(good):
    return {'text': ('notes.jpg', 'Masha and the three bears.'.encode()*40, ('not an image', 'text')),
            'web page': ('bear.jpg', b'<!DOCTYPE html><title>Please log in</title>', ('not an image', 'web page')),
            'empty': ('nothing.jpg', b'', ('is empty',)),
            'cut short': ('half.jpg', good[:len(good)//2], ('cut short',)),
            'markup in its name': ('<img src=x onerror=alert(1)>.jpg', b'no image', ('<img src=x', 'not an image'))}

@pytest.mark.parametrize('kind', bad_files(b''))
def test_what_is_no_photo_gets_a_sentence(visitor, fresh_bears, kind):
    label = list(fresh_bears)[-1]
    name, data, words = bad_files(fresh_bears[label][0].read_bytes())[kind]
    choose(visitor.page, as_file(name, data))
    check_sentence(visitor.page, name, *words)
    check_good_bear(visitor.page, fresh_bears, label)


def big_photo(path, dest):
    "A photo as a new phone makes them: 14 megapixels, about 19 MB, lying on its side with a note how to turn it"
    im = Image.open(path).convert('RGB').rotate(90, expand=True).resize((4400, 3300))
    noise = Image.frombytes('RGB', im.size, os.urandom(im.width*im.height*3))
    exif = Image.Exif()
    exif[0x0112] = 6
    im = Image.blend(im, noise, 0.35)
    for quality in range(95, 101):
        im.save(dest, quality=quality, exif=exif)
        if dest.stat().st_size > 18.5e6: break
    return dest

def test_19_mb_photo(visitor, fresh_bears, tmp_path):
    label = list(fresh_bears)[0]
    photo = big_photo(fresh_bears[label][0], tmp_path/'phone.jpg')
    assert 18e6 < photo.stat().st_size < 30e6
    choose(visitor.page, photo)
    said, rows = answer(visitor.page, 'phone.jpg')
    assert sorted(o[0] for o in rows) == sorted(fresh_bears) and said == rows[0][0]
    width, height = visitor.page.locator('.bearclf-upload .zone img').evaluate('o => [o.naturalWidth, o.naturalHeight]')
    assert width < height <= 1024  # upright, and scaled down
    check_good_bear(visitor.page, fresh_bears, label)

def test_19_mb_photo_cut_short(visitor, fresh_bears, tmp_path):
    label = list(fresh_bears)[0]
    photo = big_photo(fresh_bears[label][0], tmp_path/'half.jpg')
    photo.write_bytes(photo.read_bytes()[:15_000_000])
    choose(visitor.page, photo)
    check_sentence(visitor.page, 'half.jpg', 'cannot be opened')
    check_good_bear(visitor.page, fresh_bears, label)

def test_over_the_limit(visitor, fresh_bears, tmp_path):
    label, huge = list(fresh_bears)[0], tmp_path/'huge.jpg'
    huge.write_bytes(fresh_bears[label][0].read_bytes())
    os.truncate(huge, 31_000_000)
    assert '30 MB' in visitor.page.inner_text('.bearclf-foot')  # the limit is stated before anybody meets it
    choose(visitor.page, huge)
    check_sentence(visitor.page, 'huge.jpg', '31 MB', '30 MB')
    check_good_bear(visitor.page, fresh_bears, label)

def test_what_the_browser_cannot_open(visitor, fresh_bears):
    "A TIFF: Chromium cannot show it, Pillow can, so Python sends a picture back"
    label, b = list(fresh_bears)[0], io.BytesIO()
    Image.open(fresh_bears[label][0]).save(b, 'TIFF')
    choose(visitor.page, as_file('scan.tif', b.getvalue()))
    visitor.page.wait_for_selector('.bearclf-upload .zone img:visible')
    said, _ = answer(visitor.page, 'scan.tif')
    assert said == label

@pytest.mark.parametrize('target', ('.bearclf-upload .zone', 'body'))
def test_drop(visitor, fresh_bears, target):
    "Dropped on the zone, or beside it"
    label = list(fresh_bears)[-1]
    data = base64.b64encode(fresh_bears[label][0].read_bytes()).decode()
    dropped = visitor.page.evaluate_handle('''data => {
        const transfer = new DataTransfer(), bytes = Uint8Array.from(atob(data), o => o.charCodeAt(0));
        transfer.items.add(new File([bytes], 'dropped.jpg', {type: 'image/jpeg'}));
        return transfer }''', data)
    choose(visitor.page, as_file('before.jpg', b'no image'))
    check_sentence(visitor.page, 'before.jpg')
    visitor.page.dispatch_event(target, 'drop', dict(dataTransfer=dropped))
    visitor.page.wait_for_selector('.bearclf-upload .zone img:visible')
    said, _ = answer(visitor.page, 'dropped.jpg')
    assert said == label

def test_keyboard(visitor, fresh_bears):
    "The file input is reached with Tab, and Enter on the button classifies"
    path = next(iter(fresh_bears.values()))[-1]
    choose(visitor.page, path)
    visitor.page.wait_for_selector('.bearclf-go:enabled')
    visitor.page.focus('.bearclf-upload input')
    for _ in range(4): visitor.page.keyboard.press('Tab')  # there are three examples between
    assert 'bearclf-go' in visitor.page.evaluate('document.activeElement.className')
    visitor.page.keyboard.press('Enter')
    visitor.page.wait_for_selector(f'.bearclf-of:text-is("{path.name}")')

def test_phone(browser, address, fresh_bears):
    "Nothing is wider than a phone, neither before the answer nor after, nor with a long name"
    wider = '''() => [document.documentElement, ...document.querySelectorAll('body *')]
        .filter(o => o.scrollWidth > 390 || o.getBoundingClientRect().right > 391)
        .map(o => o.tagName + '.' + o.className)'''
    with visit(browser, address, 390, 844) as v:
        assert v.page.evaluate(wider) == []
        check_good_bear(v.page, fresh_bears, next(iter(fresh_bears)))
        assert v.page.evaluate(wider) == []
        choose(v.page, as_file('a_photo_with_a_name_that_does_not_end'*4+'.jpg', b'no image'))
        check_sentence(v.page, 'not an image')
        assert v.page.evaluate(wider) == []

def test_in_russian(browser, address, fresh_bears):
    "A browser that asks for it reads no English, before the answer and after it, and neither does a screen reader"
    def check(page):
        said = page.locator('.bearclf-page').aria_snapshot()
        said = re.sub(r"\w+\.jpg|JPEG|efficientnet_lite0|(?m:^[ '/-]*[a-z]+\b)|\[[a-z]+", '', said)
        assert {*re.findall('[a-zA-Z]{2,}', said)} <= {*fresh_bears}, said
    with visit(browser, address, locale='ru-RU') as v:
        page, photo = v.page, fresh_bears['teddy'][0]
        page.wait_for_selector('.bearclf-head b')
        page.wait_for_selector('h1:text("Покажите мне фото")')
        check(page)
        assert page.get_attribute('html', 'lang') == 'ru' and page.is_visible('.bearclf-upload .examples')
        choose(page, as_file('notes.jpg', b'Masha and the three bears.'))
        page.wait_for_selector('.note:text("не открывается")')
        check(page)
        choose(page, photo)
        page.wait_for_selector('.bearclf-go:enabled')
        page.get_by_role('button', name='Что это?').click()
        page.wait_for_selector(f'.bearclf-of:text-is("{photo.name}")')
        page.get_by_role('button', name='Куда смотрела модель?').click()
        page.wait_for_selector('.bearclf-looked, .bearclf-live:text("Важно всё фото")')
        check(page)

def test_nobody_else_is_asked(visitor, fresh_bears):
    "Every request, from the first to the answer, goes to the machine that serves the page"
    check_good_bear(visitor.page, fresh_bears, next(iter(fresh_bears)))
    hosts = [urlsplit(o) for o in visitor.asked if not o.startswith(('data:', 'blob:'))]
    assert any(o.scheme == 'ws' for o in hosts) and sum(o.scheme == 'http' for o in hosts) > 5
    assert [o.geturl() for o in hosts if o.hostname not in ('127.0.0.1', 'localhost')] == []

def test_browser_is_told_to_ask_nobody_else(visitor):
    "And if some script tried to, the browser would refuse"
    tried = visitor.page.evaluate('''() => new Promise(done => {
        document.addEventListener('securitypolicyviolation', e => done(e.blockedURI), {once: true});
        fetch('http://127.0.0.2:9/').catch(() => {}) })''')
    assert '127.0.0.2' in tried


ALIVE = 'async kernel => (await fetch("api/kernels/" + kernel)).ok'

def check_gone(page, kernel):
    "That the `kernel` ends, as another visitor's `page` can see"
    for _ in range(4*LONG):
        if not page.evaluate(ALIVE, kernel): return
        page.wait_for_timeout(250)
    raise AssertionError('the kernel goes on')


def test_kernel_ends_with_the_visit(browser, visitor, address):
    "A kernel with a model takes most of a gigabyte; it is not kept for somebody who has left"
    with visit(browser, address) as v:
        other = visitor
        kernel = v.page.evaluate('JSON.parse(document.getElementById("jupyter-config-data").textContent).kernelId')
        assert other.page.evaluate(ALIVE, kernel)
        v.page.goto('about:blank')
        check_gone(other.page, kernel)


def test_the_phones_in_the_room(browser, demo_model, fresh_bears, tmp_path):
    "By the address that this machine has in its network, which a browser trusts less than localhost"
    with served(demo_model, tmp_path, ip='0.0.0.0') as url, visit(browser, url, 390, 844) as v:
        assert 'localhost' not in url and {o.split('/')[2] for o in v.asked if o[0] in 'hw'} == {url.split('/')[2]}
        assert not v.page.evaluate('isSecureContext') or url.startswith('http://127.')
        check_good_bear(v.page, fresh_bears, 'teddy')

def in_terminal(cwd, ip, encoding):
    "What `serve` says in a terminal until the page is there"
    import pty  # Windows has none
    ours, its = pty.openpty()
    proc = subprocess.Popen([sys.executable, '-c', SERVE, '', str(free_port()), ip], cwd=cwd, stdout=its,
                            env=os.environ | {'PYTHONPATH': str(top), 'PYTHONIOENCODING': encoding})
    os.close(its)
    try:
        with open(ours, encoding='utf-8') as f:
            lines = []
            while not lines or lines[-1] and 'Ctrl-C' not in lines[-1]: lines.append(f.readline())
    finally:
        proc.send_signal(signal.SIGTERM)
        proc.wait(60)
    return lines

@pytest.mark.skipif(os.name == 'nt', reason='no pseudo-terminal on Windows')
@pytest.mark.parametrize('ip, encoding, has', [('0.0.0.0', 'utf-8', True), ('0.0.0.0', 'ascii', False),
                                               ('localhost', 'utf-8', False)])
def test_qr_code(tmp_path, ip, encoding, has):
    "Above the address, for others than this machine, where the terminal can show it"
    *code, address = in_terminal(tmp_path, ip, encoding)
    assert ('\u2588' in ''.join(code)) == has and 'http://' in address, (code, address)

def test_an_address_of_another_machine(demo_model):
    with pytest.raises(ValueError, match='not an address of this machine; 0.0.0.0'):
        serve(demo_model, ip='no.such.host.example')


class Between(socketserver.BaseRequestHandler):
    "A reverse proxy, as nginx is one: hands on what is below `/bears/`, with this path or without it, and nothing else"
    def handle(self):
        head = b''
        while b'\r\n\r\n' not in head:
            if not (more := self.request.recv(65536)): return
            head += more
        method, path, rest = head.split(b' ', 2)
        self.server.asked.append(path.decode())
        if not path.startswith(b'/bears/'): return self.request.sendall(b'HTTP/1.1 404 Not Found\r\n\r\n')
        if self.server.cuts: path = path.removeprefix(b'/bears')
        if b'websocket' not in rest.lower():
            rest = re.sub(rb'(?i)connection: [^\r]*', b'Connection: close', rest, count=1)
        with socket.create_connection(('localhost', self.server.to)) as there:
            there.sendall(b' '.join([method, path, rest]))
            back = threading.Thread(target=self.copy, args=(there, self.request))
            back.start(); self.copy(self.request, there); back.join()

    def copy(self, a, b):
        with suppress(OSError):
            while data := a.recv(65536): b.sendall(data)
            b.shutdown(socket.SHUT_WR)

@contextmanager
def between(port, cuts):
    with socketserver.ThreadingTCPServer(('127.0.0.1', 0), Between) as server:
        server.daemon_threads, server.to, server.cuts, server.asked = True, port, cuts, []
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try: yield server, f'http://localhost:{server.server_address[1]}/bears/'
        finally: server.shutdown()

def test_below_a_path(browser, demo_model, fresh_bears, tmp_path):
    "The page, its web socket, an upload and the goodbye, by way of a proxy that hands the path on or cuts it off"
    told = 'JSON.parse(document.getElementById("jupyter-config-data").textContent).kernelId'
    with served(demo_model, tmp_path, base='/bears/') as local, visit(browser, local) as other:
        assert local.endswith('/bears/')
        for cuts in False, True:
            with between(urlsplit(local).port, cuts) as (server, url):
                with visit(browser, url) as v:
                    check_good_bear(v.page, fresh_bears, 'teddy')
                    with urlopen(url) as answer: policy = answer.headers['Content-Security-Policy']
                    assert "frame-ancestors 'self'" in policy and any(o.startswith('ws://') for o in v.asked)
                    kernel = v.page.evaluate(told)
                    assert other.page.evaluate(ALIVE, kernel)
                    v.page.goto('about:blank')
                    check_gone(other.page, kernel)
                assert [o for o in server.asked if not o.startswith('/bears/') and o != '/favicon.ico'] == []

@pytest.mark.parametrize('port, ip, base, words', [
    (70000, 'localhost', '/', '70000 is no port'), (-1, 'localhost', '/', '-1 is no port'),
    (65536, '0.0.0.0', '/', '65536 is no port'),
    (0, 'localhost', 'http://a.example/bears/', 'no path of a page'), (0, 'localhost', '/a/../b/', 'no path of a page'),
    (0, 'localhost', '/"><script>', 'no path of a page'), (0, '300.1.1.1', '/', 'not an address of this machine'),
    (0, 'a b', '/', 'not an address'), (0, '.', '/', 'not an address'), (0, '192.0.2.1', '/', 'not an address')])
def test_where_no_page_can_be(port, ip, base, words):
    assert words in error_text(listen_at, port, ip, base)

def test_any_port_that_is_free():
    port, base, url = listen_at(0, 'localhost', 'a/b')
    assert port > 0 and base == '/a/b/' and url == f'http://localhost:{port}/a/b/'
    assert listen_at(port, '127.0.0.1', '')[1:] == ('/', f'http://127.0.0.1:{port}/')

def test_no_model_yet(browser, tmp_path):
    with served(None, tmp_path) as url, visit(browser, url) as v:
        said = v.page.inner_text('.bearclf-page')
        assert all(o in said for o in ('no model', 'make app', 'bearclf train FOLDER', 'bearclf app --model')), said
        assert v.page.query_selector('.bearclf-go') is None

def test_port_taken(demo_model, tmp_path):
    with socket.socket() as taken:
        taken.bind(('127.0.0.1', 0))
        taken.listen()
        with pytest.raises(ValueError, match=f'{taken.getsockname()[1]} is taken'):
            serve(demo_model, port=taken.getsockname()[1])

def test_page_needs_no_fastai():
    "The widgets show at once because nothing heavy is imported before them"
    code = 'import sys, bearclf.ship.page; print({"torch", "fastai", "bearclf.ship.predict"} & {*sys.modules})'
    assert python(code).strip() == 'set()'

def test_plain_voila_has_the_same_policy():
    "`voila.json`, for a plain `voila nbs/page.ipynb`, says what `serve` and the template say"
    plain, ours = (json.loads(o.read_text()) for o in (top/'voila.json', top/'bearclf/static/voila.json'))
    assert plain['Voila'] == ours['Voila']
    template = (top/'bearclf/static/voila/templates/bearclf/index.html.j2').read_text(encoding='utf-8')
    promise = re.search('"Content-Security-Policy" content="(.*?)">', template, re.DOTALL).group(1)
    policy = ours['Voila']['tornado_settings']['headers']['Content-Security-Policy']
    assert ' '.join(promise.split()) + "; frame-ancestors 'self'" == policy


def test_the_page_needs_only_what_it_brings(browser, demo_model, fresh_bears, tmp_path, monkeypatch):
    "As where nobody trains or tests: no package is there but those that bearclf requires, and what they require"
    there = brought()
    missing = {o for o, dists in packages_distributions().items() if not {*map(canonicalize_name, dists)} & there}
    assert {'pytest', 'jupyterlab', 'torch', 'fastai'} <= missing and not {'voila', 'onnxruntime', 'bearclf'} & missing
    (tmp_path/'sitecustomize.py').write_text(WITHOUT)
    monkeypatch.setenv('MISSING', ','.join(missing))
    monkeypatch.setenv('PYTHONPATH', str(tmp_path))
    with served(demo_model, tmp_path) as url, visit(browser, url) as v: check_good_bear(v.page, fresh_bears, 'teddy')


def test_plain_widgets_where_the_page_knows_no_others(monkeypatch, fresh_bears):
    "The same page of what every notebook knows: nothing of it is an anywidget"
    import anywidget, ipywidgets
    from bearclf.ship.page import classifier_page
    from bearclf.train import machine
    monkeypatch.setattr(machine, 'widgets_unknown', lambda: 'Load the page again.')
    def clf(photo): return SimpleNamespace(label='teddy', probability=.9, probabilities=dict(teddy=.9, black=.1))
    clf.classes, clf.info = ['black', 'teddy'], {}
    def all_of(w): return [w, *[p for o in getattr(w, 'children', ()) for p in all_of(o)]]
    parts = all_of(classifier_page(clf))
    assert not [o for o in parts if isinstance(o, anywidget.AnyWidget)]
    upload, = [o for o in parts if isinstance(o, ipywidgets.FileUpload)]
    button, = [o for o in parts if isinstance(o, ipywidgets.Button) and o.description == 'Classify']
    def said(): return ' '.join(o.value for o in parts if isinstance(o, ipywidgets.HTML))
    assert 'Load the page again.' in said()
    button.click()
    assert 'Choose a photo first.' in said()
    def choose(name, data):
        upload.value = [dict(name=name, type='', size=len(data), content=data, last_modified=datetime.now())]
        button.click()
        return said()
    assert 'web page' in choose('<b>.jpg', b'<html>403</html>') and 'This looks like' not in said()
    assert '<b>teddy' in choose('a.jpg', fresh_bears['teddy'][0].read_bytes()).replace('<b dir="auto">', '<b>')
    assert 'larger than 30 MB' in choose('b.jpg', bytes(31_000_000)) and 'This looks like' not in said()


APART = '''
import sys
from bearclf import cli
from bearclf.ship import page
page.serve = lambda model, **kw: print(page.find_model(model), bool({'torch', 'fastai'} & {*sys.modules})) or 0
sys.exit(cli.main(['app', '--model', sys.argv[1], '--port', '0']))
'''

def test_an_export_of_fastai_alone_is_read_apart(tmp_path):
    "Its portable model is in the cache before the page is served, and whoever serves it holds no torch"
    (tmp_path/'export.pkl').write_bytes((top/'tests/ship/fastai28.pkl').read_bytes())
    env = os.environ | {'PYTHONPATH': str(top), 'BEARCLF_CACHE': str(tmp_path/'cache')}
    def app(): return subprocess.run([sys.executable, '-c', APART, tmp_path], env=env, capture_output=True, text=True)
    assert app().stdout == f'{tmp_path/"export.pkl"} False\n'
    assert len([*tmp_path.glob('cache/portable/*/export.onnx')]) == 1
    (tmp_path/'export.pkl').write_bytes(b'no model')
    res = app()
    assert res.returncode == 2 and res.stdout == '' and res.stderr.count('\n') == 1 and 'export' in res.stderr


def test_where_it_looked_reaches_the_edges():
    "What decides is at the left edge of the photo, and there the map is bright"
    from bearclf.ship.page import looked_html
    def clf(photo):
        p = .01 + .98*np.asarray(photo.convert('L'))[:, :12].mean()/255
        return SimpleNamespace(label='a', probability=p, probabilities=dict(a=p, b=1 - p))
    photo = Image.new('RGB', (160, 120), 'white')
    html = looked_html(clf, photo, clf(photo))
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(re.search('base64,([^"]*)', html)[1]))).convert('L'))
    assert shown[40:80, :4].mean() > 1.5*shown[40:80, -60:].mean()
