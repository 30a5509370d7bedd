"What tests of several rooms need: processes of their own, deaths at a chosen step, small disks, a browser"
import multiprocessing, os, shutil, signal, socket, subprocess, sys, traceback
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

top = Path(__file__).resolve().parents[1]
SHARED = top.parent/'shared'
LONG = 120  # seconds for what takes one or two: only what hangs is stopped by it


def seeds(n, all_of=0):
    "The numbers below `n`; the first is tested always, the others by `make test-all`"
    return [pytest.param(i, marks=[pytest.mark.exhaustive]*(i > all_of)) for i in range(n)]


# --- processes: importing fastai takes seconds, so where a system can fork they come from one that has done so

_context = multiprocessing.get_context('forkserver' if sys.platform == 'linux' else 'spawn')
if sys.platform == 'linux':
    _context.set_forkserver_preload(['bearclf.all', 'bearclf.cli', 'nbdev.test', 'imagehash', 'ddgs', 'timm'])


def _speaking(f, args, env, cwd, out, err):
    multiprocessing.set_start_method(multiprocessing.get_all_start_methods()[0],
                                     force=True)  # for its own children, as in a new Python
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    sys.stdout, sys.stderr = (open(o, 'w', encoding='utf-8', buffering=1) for o in (out, err))
    for o, fd in (sys.stdout, 1), (sys.stderr, 2): os.dup2(o.fileno(), fd)
    if 'numpy' in sys.modules: sys.modules['numpy'].random.seed()  # as in a new Python
    res = f(*args)
    sys.stdout.flush(), sys.stderr.flush()
    os._exit(res if isinstance(res, int) else 0)


class Child:
    "A process that does `f(*args)`; it ends with the number that `f` returns"
    def __init__(self, folder, f, *args, cwd=None, env=None):
        folder.mkdir(parents=True, exist_ok=True)
        n = len(list(folder.iterdir()))
        self.out, self.err = folder/f'{n}.out', folder/f'{n}.err'
        self.out.touch()
        self.process = _context.Process(target=_speaking,
                                        args=(f, args, dict(env or os.environ), cwd or os.getcwd(), self.out, self.err))
        self.process.start()

    def said(self): return self.out.read_text(encoding='utf-8')

    def kill(self):
        self.process.kill()
        self.process.join(LONG)
        return self.said()

    def finish(self, seconds=1500):
        "Wait for its end; its status and what it said, as of `subprocess.run`"
        self.process.join(seconds)
        res = SimpleNamespace(returncode=self.process.exitcode, stdout=self.said(),
                              stderr=self.err.read_text(encoding='utf-8'))
        if res.returncode is None: self.kill(); pytest.fail(f'it goes on and on, it said {res.stdout}{res.stderr}')
        return res


def script(code):
    "In a child: `code` is the program"
    sys.modules['__main__'] = main = ModuleType('__main__')
    exec(code, vars(main))


def python(code, cwd=top, **env):
    "What a new Python prints when it runs `code`"
    res = subprocess.run([sys.executable, '-W', 'ignore', '-c', code], cwd=cwd, env=os.environ | env,
                         capture_output=True, text=True)
    assert res.returncode == 0, res.stderr[-3000:]
    return res.stdout


# --- a death at every step

can_fork = pytest.mark.skipif(not hasattr(os, 'fork'), reason='no fork on this system')
STEPS = 'rename', 'replace', 'fsync', 'mkdir', 'rmdir', 'unlink', 'ftruncate'


def _do_and_die(f, at, steps):
    signal.signal(signal.SIGALRM, signal.SIG_DFL), signal.alarm(LONG)  # a fork of what has threads may wait for ever
    left = [at]
    def stepping(step):
        def g(*args, **kw):
            if left[0] == 0: os.kill(os.getpid(), signal.SIGKILL)
            left[0] -= 2
            try: return step(*args, **kw)
            finally:
                if left[0] == -1: os.kill(os.getpid(), signal.SIGKILL)
        return g
    for o in steps: setattr(os, o, stepping(getattr(os, o)))
    sys.stdout = open(os.devnull, 'w')
    try: f(), os._exit(0)
    finally: traceback.print_exc(), sys.stderr.flush(), os._exit(1)


def killed_at(f, at, steps=STEPS):
    "Whether a child that did `f` was killed, before or after one of its `steps`, after `at` of these moments"
    pid = os.fork()
    if not pid: _do_and_die(f, at, steps)
    _, status = os.waitpid(pid, 0)
    assert status in (0, signal.SIGKILL), f'neither done nor killed: {status}'
    return status != 0


# --- places

@contextmanager
def small_disk(path, kb):
    "A disk of `kb` kilobytes at `path`"
    path.mkdir()
    made = shutil.which('mount') and not subprocess.run(['mount', '-t', 'tmpfs', '-o', f'size={kb}k', 'none', path],
                                                        capture_output=True).returncode
    if not made: pytest.skip('no small disk can be made here')
    try: yield path
    finally: subprocess.run(['umount', path], check=True)


def free_port():
    with socket.socket() as s: s.bind(('127.0.0.1', 0)); return s.getsockname()[1]


PLACES = ['/Applications/Google Chrome.app/Contents/MacOS/Google Chrome',
          'C:/Program Files/Google/Chrome/Application/chrome.exe']

def browser_path():
    "Where a browser is, if there is one: on the PATH, or where macOS and Windows put Chrome"
    found = [shutil.which(o) for o in ('chromium', 'chromium-browser', 'google-chrome', 'chrome')]
    return next((o for o in found + PLACES if o and Path(o).is_file()), None)
