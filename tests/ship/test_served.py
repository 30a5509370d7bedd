"What a served page hands out, and to whom: asked over real sockets, by `bearclf app`, plain Voilà and `jupyter server`"
import http.client, json, os, re, signal, subprocess, sys, time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from urllib.parse import urlencode

import pytest
from PIL import Image
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from helpers import LONG, free_port, top
from bearclf.ship.page import _voila_command, _voila_env, app_notebook, find_model
from test_page import served

EVIL = {'Origin': 'http://evil.example'}


def ask(port, path, method='GET', **headers):
    "Status, headers and text of an answer; `path` goes out as it is, where `urllib` would put it in order"
    c = http.client.HTTPConnection('127.0.0.1', port, timeout=LONG)
    c.putrequest(method, path, skip_host='Host' in headers)
    for k, v in headers.items(): c.putheader(k, v)
    c.endheaders()
    r = c.getresponse()
    return r.status, r.headers, r.read().decode('utf-8', 'replace')

def status(*args, **headers): return ask(*args, **headers)[0]

def visit(port, path='/', **headers):
    "A visitor's kernel"
    code, _, text = ask(port, path, **headers)
    assert code == 200, text
    return re.search('"kernelId": *"([^"]+)"', text)[1]

def socket_of(port, kernel, **kw):
    return connect(f'ws://127.0.0.1:{port}/api/kernels/{kernel}/channels', open_timeout=LONG, **kw)

def send(ws, kind, content=(), channel='shell'):
    head = dict(msg_id=kind, msg_type=kind, session='s', username='u', version='5.3', date='2026-01-01T00:00:00Z')
    ws.send(json.dumps(dict(header=head, parent_header={}, metadata={}, content=dict(content), channel=channel)))

def received(ws, kind):
    "The kinds of messages that come until a `kind` does"
    kinds = []
    while kinds[-1:] != [kind]: kinds.append(json.loads(ws.recv(timeout=LONG))['header']['msg_type'])
    return kinds

def alive(port, kernel): return status(port, f'/api/kernels/{kernel}') == 200

def wait_for(f, seconds=LONG):
    end = time.monotonic() + seconds
    while not f():
        assert time.monotonic() < end
        time.sleep(.2)


@contextmanager
def running(command, port, cwd, env=None):
    proc = subprocess.Popen(command, cwd=cwd, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    def answers():
        assert proc.poll() is None
        with suppress(OSError): return status(port, '/voila/static/')
    try: wait_for(answers); yield port
    finally: proc.send_signal(signal.SIGTERM); proc.wait(60)


@pytest.fixture(scope='module')
def room(tmp_path_factory):
    "A student's folder: the notebook, and beside it photos"
    folder = tmp_path_factory.mktemp('room')
    (folder/'page.ipynb').write_bytes(app_notebook().read_bytes())
    for o in PHOTOS:
        (folder/o).parent.mkdir(parents=True, exist_ok=True)
        Image.new('RGB', (8, 8)).save(folder/o)
    return folder

PHOTOS = 'bears/anna/1.png', '.bearclf/aside/x.png', 'me.jpg', 'plan.gif'

@pytest.fixture(scope='module')
def port(room):
    with served(None, room) as url: yield int(url.split(':')[2].strip('/'))

@pytest.fixture(scope='module')
def plain(room):
    "Plain Voilà, in a folder with the settings that lie beside README.md"
    (room/'voila.json').write_bytes((top/'voila.json').read_bytes())
    port = free_port()
    command = [sys.executable, '-m', 'voila', 'page.ipynb', '--no-browser', f'--port={port}']
    with running(command, port, room): yield port

@pytest.fixture(scope='module')
def jupyter(room, tmp_path_factory):
    "`jupyter server` with what .binder/postBuild copies, but that it ends kernels after some seconds"
    prefix, port = tmp_path_factory.mktemp('prefix'), free_port()
    for o in ('share', 'etc'): (prefix/o/'jupyter').mkdir(parents=True)
    copies = re.search('^prefix=.*\n((?:cp .*\n)+)', (top/'.binder/postBuild').read_text(), re.MULTILINE)[1]
    subprocess.run(['bash', '-ec', copies], cwd=top, env=os.environ | {'prefix': str(prefix)}, check=True)
    settings = prefix/'etc/jupyter/jupyter_server_config.json'
    if settings.exists(): settings.write_text(re.sub(r'("cull_\w+": )\d+', r'\g<1>1', settings.read_text()))
    env = os.environ | {'JUPYTER_CONFIG_PATH': str(prefix/'etc/jupyter'), 'JUPYTER_PATH': str(prefix/'share/jupyter')}
    command = [sys.executable, '-m', 'jupyter_server', '--no-browser', '--allow-root', f'--ServerApp.port={port}',
               '--IdentityProvider.token=sesame', f'--ServerApp.root_dir={room}', '--Kernels.unmet=8']
    with running(command, port, tmp_path_factory.mktemp('cwd'), env): yield port

posix = pytest.mark.skipif(os.name == 'nt', reason='Binder has bash')
everywhere = pytest.mark.parametrize('server', ['port', 'plain', pytest.param('jupyter', marks=posix)])


OUT = [f'{way}{up}{what}' for way in ('files', 'static', 'templates/lab/static', 'templates', 'templates/static',
                                      'labextensions', 'api/themes')
       for up in ('/' + '../'*12, '/' + '%2e%2e/'*12, '/' + '..%2f'*12, '/' + '..%5c'*12, '//', '/%2f')
       for what in ('etc/hosts', 'Windows/win.ini')]

@everywhere
def test_files_are_not_handed_out(server, request):
    "None that lies beside the page, none in a folder with a dot, none above; also to no one with a password"
    port = request.getfixturevalue(server)
    beside = [o.relative_to(app_notebook().parent).as_posix() for o in app_notebook().parent.rglob('*.png')]
    ways = [f'{way}{o}' for o in (*PHOTOS, *beside, 'page.ipynb', 'voila.json')
            for way in ('files/', 'static/', 'files/../', 'files/./', 'files/x/%2e%2e/')]
    given = [o for o in ways + OUT if status(port, f'/voila/{o}') == 200]
    assert given == []
    assert status(port, '/voila/templates/lab/static/voila.js') == 200, 'what the page itself needs comes'
    told = [o for o in ('/api/kernels', '/api/sessions', '/api/contents', '/api/terminals', '/voila/api/contents',
                        '/voila/tree', '/files/me.jpg', '/me.jpg') if status(port, o) == 200]
    assert told == []

@everywhere
def test_the_page_says_who_may_show_it(server, request):
    "Headers, the template that asks nobody else, and no other template, whoever asks for one"
    port = request.getfixturevalue(server)
    path = '/voila/render/page.ipynb' if server == 'jupyter' else '/'
    for query in (dict(token='sesame'), dict(token='sesame', template='lab', theme='dark')):
        code, headers, text = ask(port, f'{path}?{urlencode(query)}')
        assert code == 200 and 'data-jp-theme-light="true"' in text
        assert headers['X-Content-Type-Options'] == 'nosniff'
        assert "frame-ancestors 'self'" in headers['Content-Security-Policy']
        policy = headers['Content-Security-Policy'] + text.split('<body')[0]
        assert "default-src 'self'; script-src 'self'" in policy and "connect-src 'self'" in policy


def test_a_model_is_looked_for_where_the_person_is(tmp_path, monkeypatch):
    "Not beside the notebook that is served, which stands in a folder of its own"
    for o in ('mine', 'other'): (tmp_path/'models'/o).mkdir(parents=True)
    mine = tmp_path/'models/mine/export.pkl'
    mine.touch()
    monkeypatch.delenv('BEARCLF_MODEL', raising=False)
    monkeypatch.setenv('BEARCLF_CWD', str(tmp_path))
    assert find_model() == find_model('models/mine') == find_model(mine) == mine.resolve()
    assert find_model('models/other') is None


def test_no_code_from_a_visitor(port, tmp_path):
    "Not even in their own kernel: Voilà takes what widgets say, and nothing else"
    with socket_of(port, visit(port)) as ws:
        for channel in ('shell', 'control'):
            send(ws, 'execute_request', dict(code=f'open({str(tmp_path/"x")!r}, "w")', silent=False), channel)
            send(ws, 'inspect_request', dict(code='open', cursor_pos=4, detail_level=1), channel)
        send(ws, 'kernel_info_request')
        assert not {'execute_reply', 'inspect_reply', 'error'} & {*received(ws, 'kernel_info_reply')}
    assert not (tmp_path/'x').exists()

def test_another_visitors_kernel(port):
    "Its name is the key to it, a random one that nobody is told; a request to end one's own ends no other"
    ours, other = visit(port), visit(port)
    assert len({*ours} - {'-'}) > 8 and ours != other
    with socket_of(port, other) as ws:
        send(ws, 'shutdown_request', dict(restart=False), 'control')
        received(ws, 'shutdown_reply')
    guess = ours[:-1] + ('0' if ours[-1] != '0' else '1')
    assert [status(port, f'/{o}/{guess}', m) for o, m in (('api/kernels', 'DELETE'), ('voila/api/shutdown', 'POST'))
            ] == [404, 404]
    assert alive(port, ours)

def test_another_site(port):
    "A page from elsewhere in a visitor's browser is refused even if it has the name, and so is its socket"
    kernel = visit(port)
    with pytest.raises(InvalidStatus): socket_of(port, kernel, origin=EVIL['Origin'])
    assert status(port, f'/voila/api/shutdown/{kernel}', 'POST', **EVIL) == 404
    assert status(port, f'/api/kernels/{kernel}', 'DELETE', **EVIL) in (403, 404)
    assert 'Access-Control-Allow-Origin' not in ask(port, '/', **EVIL)[1]
    assert alive(port, kernel)
    assert status(port, f'/voila/api/shutdown/{kernel}', 'POST') == 204 and not alive(port, kernel)

@pytest.mark.parametrize('preheat', [False, True])
def test_a_flood_of_visitors(room, preheat):
    "There are never more kernels than have room, and who has left or never came makes room"
    port = free_port()
    command = _voila_command(room/'page.ipynb', port, 'localhost', preheat) + [
        '--Door.room=3', '--Kernels.unmet=3', '--Kernels.cull_interval=1']
    with running(command, port, room, _voila_env(None)), ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda _: ask(port, '/'), range(12)))
        let_in = [text for code, _, text in answers if code == 200]
        assert 1 <= len(let_in) <= 3 and {o[0] for o in answers} == {200, 503}
        assert all('Too many people are here at once' in text for code, _, text in answers if code == 503)
        wait_for(lambda: status(port, '/') == 200)

def test_those_who_never_come(room):
    "Link previews, health checks, a browser that was killed: their kernels end, the one kept ready stays"
    port = free_port()
    command = _voila_command(room/'page.ipynb', port, 'localhost', True) + [
        '--Kernels.unmet=4', '--Kernels.left=2', '--Kernels.cull_interval=1']
    with running(command, port, room, _voila_env(None)), ThreadPoolExecutor(5) as pool:
        assert status(port, '/', 'HEAD') == 405
        with socket_of(port, visit(port)) as ws:
            kernels = [*pool.map(lambda _: visit(port), range(10))]
            wait_for(lambda: not any(alive(port, o) for o in kernels))
            send(ws, 'kernel_info_request')
            assert 'kernel_info_reply' in received(ws, 'kernel_info_reply'), 'who is here stays'
            kernel = re.search('/kernels/(.*)/channels', ws.request.path)[1]
        wait_for(lambda: not alive(port, kernel))
        assert visit(port), 'the next is served'

@posix
def test_jupyter_server_lets_only_in_who_may(jupyter):
    "There the password guards, and a request from elsewhere lacks the token against forgeries"
    page = '/voila/render/page.ipynb'
    assert status(jupyter, page) == 302 and status(jupyter, '/api/kernels') == 403
    code, headers, text = ask(jupyter, f'{page}?token=sesame')
    kernel, cookie = re.search('"kernelId": *"([^"]+)"', text)[1], headers['Set-Cookie'].split(';')[0]
    for way, method in (('voila/api/shutdown', 'POST'), ('api/kernels', 'DELETE')):
        assert status(jupyter, f'/{way}/{kernel}', method, Cookie=cookie) == 403
        assert status(jupyter, f'/{way}/{kernel}', method, Cookie=cookie, **EVIL) in (403, 404)
    with pytest.raises(InvalidStatus): socket_of(jupyter, kernel)
    with pytest.raises(InvalidStatus):
        socket_of(jupyter, kernel, origin=EVIL['Origin'], additional_headers={'Cookie': cookie})
    wait_for(lambda: status(jupyter, f'/api/kernels/{kernel}?token=sesame') == 404)  # nobody has come back for it

@posix
def test_a_page_that_is_left_ends_its_kernel(jupyter):
    "Voilà's own request at the end of a visit carries what the server asks for, so ten reloads do not hold ten kernels"
    code, headers, text = ask(jupyter, '/voila/render/page.ipynb?token=sesame')
    cookies = dict(o.split(';')[0].split('=', 1) for o in headers.get_all('Set-Cookie'))
    kernel = re.search('"kernelId": *"([^"]+)"', text)[1]
    said = '; '.join(f'{k}={v}' for k, v in cookies.items())
    path = f'/voila/api/shutdown/{kernel}?{urlencode(dict(_xsrf=cookies["_xsrf"]))}'
    assert status(jupyter, path, 'POST', Cookie=said, **{'Content-Length': '0'}) == 204
    assert status(jupyter, f'/api/kernels/{kernel}?token=sesame') == 404
