"The page without a server as a folder: what is in it, what it leaves alone, how it is served, and without a network"
import gzip, http.client, io, json, os, re, signal, socket, subprocess, sys, threading, time
from contextlib import contextmanager
from functools import partial
from hashlib import sha256
from html import unescape
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import psutil, pytest, yaml
from PIL import Image

from helpers import LONG, can_fork, free_port, killed_at
from bearclf import cli
from bearclf.ship import hosted
from bearclf.core import BearclfError
from bearclf.ship.hosted import _exchange, _is_named, _packed, serve_site, site_files, write_folder

# https://huggingface.co/docs/hub/spaces-config-reference
KEYS = {'title', 'emoji', 'colorFrom', 'colorTo', 'sdk', 'python_version', 'sdk_version', 'suggested_hardware',
        'suggested_storage', 'app_file', 'app_port', 'base_path', 'fullWidth', 'models', 'datasets', 'tags', 'pinned',
        'custom_headers'}
COLOURS = {'red', 'yellow', 'green', 'blue', 'indigo', 'purple', 'pink', 'gray'}
TITLE = 'Bears: "black"? <b>'


@pytest.fixture(scope='module')
def files(demo_model): return site_files(demo_model, TITLE)

@pytest.fixture(scope='module')
def other(demo_model): return site_files(demo_model, 'The second')

def held(folder): return {o.name: o.read_bytes() for o in folder.iterdir() if o.is_file()}

def whole(found):
    "The title of the one version that somebody gets who comes by `index.html`; all that it names is there"
    page = found['index.html'].decode()
    named = set(re.findall(r'bearclf-\w+\.[0-9a-f]{12}\.\w+', page))
    assert len(named) >= 5 and named <= {*found}
    assert all(sha256(found[o]).hexdigest()[:12] in o for o in named)
    code = found[re.search(r'"(.+)"', found['worker.js'].decode())[1]].decode()
    site = json.loads(re.match(r'const SITE = (.*);\n', code)[1])
    assert {*site['files']} <= {*found}, 'the service worker would not be installed'
    return unescape(re.search('<title>(.*?)</title>', page)[1])


# --- what is in it

def test_what_hosts_read(files):
    _, head, _ = files['README.md'].decode().split('---\n', 2)
    said = yaml.safe_load(head)
    assert {*said} <= KEYS and {said['colorFrom'], said['colorTo']} <= COLOURS
    assert said['sdk'] == 'static' and said['title'] == TITLE and said['app_file'] in files and said['pinned'] is False
    assert files['.nojekyll'] == b'' and max(map(len, files.values())) < 25e6
    assert not re.search('https?:|learned_from', files['index.html'].decode().split('<pre', 1)[0])


def test_it_can_be_installed(files):
    said = json.loads(next(v for k, v in files.items() if k.endswith('.webmanifest')))
    assert said['name'] == TITLE and said['display'] == 'standalone' and said['short_name']
    assert {said[o] for o in ('start_url', 'scope', 'id')} == {'./'}
    sizes = {o['purpose']: [] for o in said['icons']}
    for o in said['icons']:
        im = Image.open(io.BytesIO(files[o['src']]))
        assert o['sizes'] == f'{im.width}x{im.height}' and im.format == 'PNG' and o['type'] == 'image/png'
        sizes[o['purpose']].append(im.width)
        if o['purpose'] == 'maskable':  # all that is not ground lies in the circle that is never cut away
            ground, r = im.getpixel((0, 0)), .4*im.width
            odd = [(x, y) for x in range(im.width) for y in range(im.height) if im.getpixel((x, y)) != ground]
            assert odd and all((x - im.width/2)**2 + (y - im.height/2)**2 <= r*r for x, y in odd)
    assert sizes == dict(any=[192, 512], maskable=[512])


def test_the_same_model_gives_the_same_files(files, demo_model): assert site_files(demo_model, TITLE) == files

def test_large_files_come_in_pieces():
    data = os.urandom(20_000_000)
    found = _packed('model.bin', data)
    assert len(found) == 3 and max(map(len, found.values())) < 10e6  # what a Space takes as a plain file
    assert gzip.decompress(b''.join(found.values())) == data


# --- what it leaves alone

@pytest.fixture
def quick(files, other, monkeypatch):
    "Here is not computed what both are made of"
    made = {TITLE: files, 'The second': other}
    monkeypatch.setattr(hosted, 'site_files', lambda model, title=TITLE, *_, **__: made[title or TITLE])

def test_what_is_not_ours_stays(quick, demo_model, files, tmp_path):
    site = write_folder(demo_model, tmp_path/'site', TITLE)
    assert held(site) == files
    own = {'CNAME': b'bears.example', 'about.html': b'<p>me', 'README.md': b'mine', 'bearclf-x.0123456789ab.js': b'1'}
    for k, v in own.items(): (site/k).write_bytes(v)
    (site/'.git').mkdir(), (site/'.git/HEAD').write_text('x')
    before = {*held(site)}
    write_folder(demo_model, site, 'The second')
    found = held(site)
    assert own.items() <= found.items() and whole(found) == 'The second' and (site/'.git/HEAD').exists()
    assert len(found) == len(before) and sum(o.endswith('.html') and 'page' in o for o in found) == 1
    for o in [*site.glob('*.html'), *site.glob('*.js')]: o.write_bytes(o.read_bytes().replace(b'\n', b'\r\n'))
    assert whole(held(write_folder(demo_model, site, TITLE))) == TITLE, 'line ends of Windows, as git writes them'
    assert [o.name for o in tmp_path.iterdir()] == ['site']


@pytest.mark.parametrize('name', ['index.html', 'worker.js'])
def test_a_page_of_somebody_else_is_not_replaced(name, quick, demo_model, tmp_path):
    for text in '<h1>mine</h1>', 'importScripts("bearclf-worker.0123456789ab.js");\n':
        (tmp_path/name).write_text(text)
        with pytest.raises(BearclfError, match=f'{name} was not written by bearclf'):
            write_folder(demo_model, tmp_path)
        assert held(tmp_path) == {name: text.encode()}
    (tmp_path/name).unlink()
    (tmp_path/'x').write_text('x')
    (tmp_path/name).symlink_to(tmp_path/'x')
    with pytest.raises(BearclfError, match='is a link'): write_folder(demo_model, tmp_path)
    with pytest.raises(BearclfError, match='is no folder'): write_folder(demo_model, tmp_path/'x')
    with pytest.raises(BearclfError, match='empty'): write_folder(demo_model, '')


def test_what_we_wrote_and_somebody_changed_is_not_replaced(quick, demo_model, files, tmp_path):
    _exchange(files, tmp_path/'site')
    with (tmp_path/'site/index.html').open('a') as f: f.write('<p>and me')
    before = held(tmp_path/'site')
    with pytest.raises(BearclfError, match='or was changed since'): write_folder(demo_model, tmp_path/'site')
    assert held(tmp_path/'site') == before


@can_fork
@pytest.mark.parametrize('new', [True, False])
def test_killed_at_every_step(new, files, other, tmp_path):
    site, titles = tmp_path/'site', set()
    for step in range(200):
        if not new: _exchange(files, site), (site/'CNAME').write_text('x')
        if not killed_at(lambda: _exchange(other, site), step): break
        if site.exists(): titles.add(whole(held(site)))
        if new and site.exists(): assert held(site) == other; titles.add('new'); break
    assert step > 1 and 'The second' in titles and len(titles) == 2, titles
    _exchange(other, site)
    assert whole(held(site)) == 'The second' and sum(map(_is_named, site.iterdir())) == len(other) - 4


# --- served

def ask(url, path, method='GET', **headers):
    c = http.client.HTTPConnection(*url.split('/')[2].split(':'), timeout=LONG)
    c.request(method, path, headers=headers)
    r = c.getresponse()
    return r.status, r.headers, r.read()

def test_it_hands_out_its_files_and_nothing_else(quick, demo_model, files):
    site = serve_site(demo_model, base_url='/bears/', title=TITLE)
    assert site.url.endswith('/bears/') and site.url in site._repr_html_() and '<svg' not in site._repr_html_()
    kinds = dict(mjs='text/javascript', js='text/javascript', html='text/html; charset=utf-8', png='image/png',
                 bin='application/octet-stream', webmanifest='application/manifest+json')
    for name in files:
        status, head, data = ask(site.url, f'/bears/{name}')
        assert (status, data) == (200, files[name]) and head['X-Content-Type-Options'] == 'nosniff'
        assert head['Content-Type'] == kinds.get(name.rsplit('.')[-1], head['Content-Type'])
        assert ('immutable' in head['Cache-Control']) == name.startswith('bearclf-')
        assert ask(site.url, f'/bears/{name}', **{'If-None-Match': head['Etag']})[0] == 304
    assert ask(site.url, '/bears/')[2] == files['index.html'] and ask(site.url, '/bears/', 'HEAD')[2] == b''
    for o in ('/', '/index.html', '/bears/..', '/bears/../', '/bears/%2e%2e/', '/bears/..%2f..%2fetc/passwd',
              '/bears//etc/passwd', '/bears/./index.html', '/bears/index.html%00', '/bears/%ff', '/bears/x/'):
        status, _, data = ask(site.url, o)
        assert status in (400, 404) and len(data) < 200, o
    assert ask(site.url, '/bears/', 'POST')[0] == 405
    site.stop()
    with pytest.raises(OSError): ask(site.url, '/bears/')
    site.stop()

def test_who_asks_and_does_not_read_takes_no_memory(quick, demo_model, files, capfd):
    site, name = serve_site(demo_model), max(files, key=lambda o: len(files[o]))
    asked, before = [socket.create_connection(site.url.split('/')[2].split(':'), LONG) for _ in range(30)], rss()
    for o in asked: o.sendall(f'GET /{name} HTTP/1.1\r\nHost: localhost\r\n\r\n'.encode())
    assert ask(site.url, f'/{name}')[2] == files[name] and ask(site.url, f'/{name}', 'HEAD')[2] == b''
    assert rss() - before < 10*len(files[name]), 'of 30 times'
    for o in asked: o.close()
    site.stop()
    assert capfd.readouterr().err == ''

def rss(): return psutil.Process().memory_info().rss


def test_a_phone_finds_it(quick, demo_model):
    site = serve_site(demo_model, ip='0.0.0.0')
    assert '<svg' in site._repr_html_() and 'localhost' not in site.url and ask(site.url, '/')[0] == 200
    site.stop()


@pytest.mark.skipif(os.name == 'nt', reason='Windows has other signals')
@pytest.mark.parametrize('how', [signal.SIGINT, signal.SIGTERM])
def test_the_command_serves_until_it_is_told_to_stop(how, demo_model, tmp_path):
    port = free_port()
    words = ['app', '--site', '--model', demo_model, '--port', port, '--base-url', 'bears']
    heard = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)  # who runs the tests in the background ignores Ctrl+C
    proc = subprocess.Popen([sys.executable, '-W', 'error', '-m', 'bearclf', *map(str, words)], cwd=tmp_path, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=heard)
    url = re.search(r'http://\S+', proc.stdout.readline())[0]
    assert url == f'http://localhost:{port}/bears/' and ask(url, '/bears/')[0] == 200
    proc.send_signal(how)
    assert proc.communicate(timeout=LONG) == ('', '') and proc.returncode == 0


def test_the_command_says_what_does_not_fit(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(['app', '--site', '--feedback', 'x']) == 2
    assert '--feedback and --log can keep none' in capsys.readouterr().err
    assert cli.main(['app', '--site', '--port', '0']) == 2 and 'There is no model' in capsys.readouterr().err


# --- in a browser, without a network

@contextmanager
def host(folder, port):
    "A host that knows nothing of us, with `folder` below it"
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_): pass
    server = ThreadingHTTPServer(('127.0.0.1', port), partial(Quiet, directory=folder))
    thread = threading.Thread(target=server.serve_forever, args=(.02,))
    thread.start()
    try: yield f'http://localhost:{port}'
    finally: server.shutdown(); thread.join(); server.server_close()

def answer(page, photo):
    page.set_input_files('#zone input[type=file]', photo)
    page.wait_for_selector('#list > li:first-child h2')
    return page.inner_text('#list > li:first-child')

def until(page, js):
    "Wait until this is true; Playwright's own way would need a policy that lets text be run"
    end = time.monotonic() + LONG
    while not page.evaluate(js):
        assert time.monotonic() < end, js
        time.sleep(.05)

def is_active(page): until(page, f'async () => (await {WORKER})?.active?.state === "activated"')

WORKER = 'navigator.serviceWorker.getRegistration()'


def test_without_a_network_and_a_new_version(browser, files, other, fresh_bears, tmp_path):
    "Below a path of a host on which others live, too"
    photo, site, port = fresh_bears['teddy'][0], tmp_path/'me/bears', free_port()
    _exchange(files, site)
    (tmp_path/'me/index.html').write_text('<h1>another page')
    context = browser.new_context()
    context.set_default_timeout(1000*LONG)
    asked = []
    context.on('request', lambda o: asked.append(o.url))
    with host(tmp_path, port) as url:
        page = context.new_page()
        page.goto(f'{url}/me/')
        page.evaluate('caches.open("of the other page")')
        page.goto(f'{url}/me/bears/')
        assert 'teddy' in answer(page, photo)
        is_active(page)
        page.close()
    page = context.new_page()  # and now the host is gone
    for o in '', 'index.html', '?a=b#c':
        page.goto(f'{url}/me/bears/{o}')
        assert page.title() == TITLE and 'teddy' in answer(page, photo)
    with pytest.raises(Exception, match='ERR_'): context.new_page().goto(f'{url}/me/')  # not ours
    _exchange(other, site)
    with host(tmp_path, port):
        assert page.reload() and page.title() == TITLE
        until(page, f'async () => !!(await {WORKER}).waiting')
        assert 'teddy' in answer(page, photo) and len(page.evaluate('caches.keys()')) == 3
        page.close()
        page = context.new_page()  # the next visit
        page.goto(f'{url}/me/bears/')
        is_active(page)
        assert page.title() == 'The second'
        until(page, 'async () => (await caches.keys()).length === 2')
    page.reload()
    assert page.title() == 'The second' and 'teddy' in answer(page, photo)
    assert 'of the other page' in page.evaluate('caches.keys()')
    assert [o for o in asked if not o.startswith((url, 'blob:', 'data:'))] == []
    context.close()


def test_an_upload_that_is_half_done(browser, files, other, fresh_bears, tmp_path):
    "If a file is missing, the version before stays, whole"
    port = free_port()
    _exchange(files, tmp_path/'site')
    context = browser.new_context()
    context.set_default_timeout(1000*LONG)
    with host(tmp_path/'site', port) as url:
        page = context.new_page()
        page.goto(url)
        is_active(page)
        _exchange(other, tmp_path/'site')
        next((tmp_path/'site').glob('*.webmanifest')).unlink()
        page.evaluate(f'async () => {{ await (await {WORKER}).update().catch(() => 0); }}')
        until(page, f'async () => {{ const o = await {WORKER}; return !o.installing && !o.waiting; }}')
    page.close()
    page = context.new_page()
    page.goto(url)
    assert page.title() == TITLE and 'black' in answer(page, fresh_bears['black'][0])
    context.close()
