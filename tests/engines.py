"""Browsers of other makers than chromium's, so that a page can be opened in them: Firefox through WebDriver BiDi, and
WebKit, the engine of Safari, through WebDriver. Neither needs a driver that is downloaded."""
import base64, json, os, shutil, subprocess, tempfile, time
from contextlib import contextmanager
from http.client import HTTPConnection
from itertools import count
from socketserver import StreamRequestHandler, ThreadingTCPServer
from threading import Thread
from pathlib import Path

from websocket import create_connection

from helpers import LONG, free_port


def _waited(f, errors=OSError):
    "What `f` gives as soon as it no longer fails"
    end = time.time() + LONG
    while True:
        try: return f()
        except errors:
            if time.time() > end: raise
            time.sleep(.1)


class _Page:
    def wait(self, js):
        "Until the JavaScript expression `js` is something"
        end = time.time() + LONG
        while not self.ask(f'!!({js})'):
            if time.time() > end: raise TimeoutError(self.ask('document.body.innerText'))
            time.sleep(.1)

    def try_to_open(self, url):
        try: self.open(url)
        except RuntimeError: pass


class Firefox(_Page):
    "A page in Firefox. See https://w3c.github.io/webdriver-bidi/"
    program = staticmethod(lambda: shutil.which('firefox-esr') or shutil.which('firefox'))
    lacks = 'Install firefox-esr (or firefox) and run again.'

    def __init__(self, folder, port):
        self._process = subprocess.Popen([self.program(), '--headless', '--no-remote', '--profile', str(folder),
            f'--remote-debugging-port={port}'], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            connect = lambda: create_connection(f'ws://127.0.0.1:{port}/session', suppress_origin=True, timeout=LONG)
            self._ws, self._ids, self.asked = _waited(connect), count(1), []
            self._do('session.new', capabilities={})
            self._do('session.subscribe', events=['network.beforeRequestSent'])
            self._page = self._do('browsingContext.getTree')['contexts'][0]['context']
        except BaseException: self.close(); raise

    def _do(self, method, **params):
        self._ws.send(json.dumps(dict(id=(n := next(self._ids)), method=method, params=params)))
        while (o := json.loads(self._ws.recv())).get('id') != n: self._note(o)
        if o['type'] == 'error': raise RuntimeError(f"{method}: {o['message']}")
        return o['result']

    def _note(self, event):
        if event.get('method') == 'network.beforeRequestSent': self.asked.append(event['params']['request']['url'])

    def open(self, url): self._do('browsingContext.navigate', context=self._page, url=str(url), wait='complete')

    def _evaluate(self, js):
        res = self._do('script.evaluate', expression=js, target=dict(context=self._page), awaitPromise=True)
        if res['type'] == 'exception': raise RuntimeError(res['exceptionDetails']['text'])
        return res['result']

    def ask(self, js):
        "What the JavaScript expression `js`, or its promise, comes to"
        return json.loads(self._evaluate(f'(async () => JSON.stringify([await ({js})]))()')['value'])[0]

    def choose(self, selector, *files):
        found = self._evaluate(f'document.querySelector({json.dumps(selector)})')
        self._do('input.setFiles', context=self._page, element=dict(sharedId=found['sharedId']),
                 files=[str(o) for o in files])

    def picture(self):
        return base64.b64decode(self._do('browsingContext.captureScreenshot', context=self._page)['data'])

    def close(self):
        self._process.terminate()
        self._process.wait(LONG)


class _Recorder(ThreadingTCPServer):
    "A proxy that only writes down what it is asked for"
    daemon_threads = True

    def __init__(self):
        class Handler(StreamRequestHandler):
            def handle(self): self.server.asked.append(self.rfile.readline().decode(errors='replace'))
        super().__init__(('127.0.0.1', 0), Handler)
        self.asked = []
        Thread(target=self.serve_forever, daemon=True).start()


class WebKit(_Page):
    "A page in WebKitGTK's MiniBrowser, on a screen that is none. See https://w3c.github.io/webdriver/"
    program = staticmethod(lambda: shutil.which('Xvfb') and shutil.which('WebKitWebDriver'))
    lacks = 'Install webkit2gtk-driver and xvfb and run again.'

    def __init__(self, folder, port):
        # No `xvfb-run`: it needs xauth
        r, w = os.pipe()
        quiet = dict(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        screen = ['Xvfb', '-displayfd', str(w), '-screen', '0', '1280x1024x24', '-nolisten', 'tcp']
        self._screen = subprocess.Popen(screen, pass_fds=[w], **quiet)
        os.close(w)
        with open(r) as f: screen = f.readline().strip()
        env = os.environ | dict(DISPLAY=f':{screen}', HOME=str(folder), GDK_BACKEND='x11', NO_AT_BRIDGE='1')
        self._process = subprocess.Popen([self.program(), f'--port={port}'], env=env, start_new_session=True, **quiet)
        self._port, self._session, self._recorder = port, '', _Recorder()
        self.asked = self._recorder.asked
        try:
            status = _waited(lambda: self._do('GET', '/status'))
            assert status['ready'], status
            proxy = f"127.0.0.1:{self._recorder.server_address[1]}"
            always = dict(proxy=dict(proxyType='manual', httpProxy=proxy, sslProxy=proxy))
            session = self._do('POST', '/session', capabilities=dict(alwaysMatch=always))
            self._session = f"/session/{session['sessionId']}"
            self._do('POST', '/timeouts', script=LONG*1000, pageLoad=LONG*1000)
        except BaseException: self.close(); raise

    def _do(self, method, path, **params):
        c = HTTPConnection('127.0.0.1', self._port, timeout=LONG + 10)
        c.request(method, self._session + path, json.dumps(params) if method == 'POST' else None,
                  {'Content-Type': 'application/json'})
        res = json.loads(c.getresponse().read())['value']
        c.close()
        if isinstance(res, dict) and 'error' in res: raise RuntimeError(f"{path}: {res['error']}, {res['message']}")
        return res

    def open(self, url): self._do('POST', '/url', url=str(url))

    def ask(self, js):
        "What the JavaScript expression `js`, or its promise, comes to"
        code = f'''const done = arguments[0];
            (async () => {js})().then(o => done(JSON.stringify([o])), e => done(String(e) + "\\n" + e.stack))'''
        said = self._do('POST', '/execute/async', script=code, args=[])
        if not said.startswith('['): raise RuntimeError(said)
        return json.loads(said)[0]

    def choose(self, selector, *files):
        self.ask(f"document.querySelector({json.dumps(selector)}).value = ''")  # WebDriver adds to what is chosen
        element, = self._do('POST', '/element', using='css selector', value=selector).values()
        self._do('POST', f'/element/{element}/value', text='\n'.join(str(o) for o in files))

    def picture(self): return base64.b64decode(self._do('GET', '/screenshot'))

    def close(self):
        if self._session:
            try: self._do('DELETE', '')
            except (OSError, RuntimeError): pass
        for o in self._process, self._screen: o.terminate(); o.wait(LONG)
        self._recorder.shutdown()
        self._recorder.server_close()


@contextmanager
def opened(kind):
    "A new browser of the `kind` Firefox or WebKit"
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as d:
        page = kind(Path(d), free_port())
        try: yield page
        finally: page.close()
