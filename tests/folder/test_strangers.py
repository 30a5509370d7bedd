"Whatever lies in a folder that a stranger has packed: it is data, nothing outside is touched, and opening moves nothing"
import csv, io, json, os, re, shutil, signal, stat, subprocess, sys, tarfile, threading, zipfile
from contextlib import contextmanager
from hashlib import sha256

import pytest

from bearclf.cli import main
from bearclf.clean.decisions import Decisions, apply_csv
from bearclf.collect.collect import MANIFEST, bundle, collect
from bearclf.core import BearclfError, Table
from bearclf.folder.look import check_folder
from bearclf.folder.moves import ASIDE, DELETE, HOME, KEEP, History, _line, undo
from bearclf.folder.verify import verify
from bearclf.practice.drawn import draw_bear

pytestmark = pytest.mark.skipif(os.name == 'nt', reason='links and pipes need rights there')
HISTORY = f'{HOME}/history.jsonl'
WATCHED = {'open', *[f'os.{o}' for o in 'rename remove rmdir mkdir truncate link symlink chmod utime'.split()]}
_seen, _watched = [], [] # what was done outside; the folders (outside, but not in)

def _watch(event, args):
    "What a process does is told to this: anything that opens or changes a path outside is noted"
    if not _watched or event not in WATCHED: return
    out, but = _watched[0]
    for o in args[:2]:
        if not isinstance(o, (str, bytes, os.PathLike)): continue
        try: real = os.path.realpath(os.fsdecode(o) if event == 'open' else os.path.dirname(os.fsdecode(o)))
        except ValueError: continue
        inside = [o for o in but if f'{real}/'.startswith(f'{o}/')]
        if f'{real}/'.startswith(f'{out}/') and not inside: _seen.append((event, *map(str, args[:2])))

sys.addaudithook(_watch)


def state(folder):
    "Everything below `folder`: what kind, when changed, what it holds"
    def held(o, st):
        if stat.S_ISLNK(st.st_mode): return os.readlink(o)
        return open(o, 'rb').read() if stat.S_ISREG(st.st_mode) and st.st_size < 10**6 else st.st_size
    all = [os.path.join(a, o) for a, *bc in os.walk(folder) for b in bc for o in b]
    return {os.path.relpath(o, folder): (stat.S_IFMT(st.st_mode), st.st_mtime_ns * (not stat.S_ISDIR(st.st_mode)),
                                         0 if stat.S_ISDIR(st.st_mode) else held(o, st))
            for o in all for st in [os.lstat(o)]}

def ours(before): return {k: v for k, v in before.items() if not k.startswith(HOME) or ASIDE in k}

def sha(file): return sha256(file.read_bytes()).hexdigest()

def event(**e): return _line(**{'by': 'they', 'when': '2026-01-01 00:00:00'} | e)

def move(run, photo, to, sha, **kw):
    return event(**dict(do='move', run=run, photo=photo, to=to, sha=sha, kind='verify', was=photo, what='x', size=9,
                        once=False, made=[]) | kw)

def decide(photo, what, sha, **kw):
    return event(**dict(do='decide', photo=photo, was=photo, what=what, sha=sha, size=9, once=False, blind=False) | kw)

def run(n, kind='verify', do='run', **kw): return event(**dict(do=do, run=n, kind=kind, n=3) | kw)

END, BEGIN = event(do='end'), event(do='begin', version=1, id='x')


class Street:
    "A person's home with secrets, and in it `bears`, which a stranger has packed"
    def __init__(self, home, drawn):
        self.home, self.bears = home, home/'bears'
        (home/'empty/inner').mkdir(parents=True); (home/'full').mkdir()
        shutil.copy(drawn/'secret.png', home/'secret.png')
        (home/'secret.txt').write_text('my secret')
        (home/'full/history.jsonl').write_bytes(BEGIN + run(1) + move(1, 'black/a.png', 'black/0.png', 's'))
        (home/'full/manifest.csv').write_text('file,decision\nblack/0.png,delete\n')
        shutil.copytree(drawn/'bears', self.bears)
        self.secret, self.photos = sha(home/'secret.png'), [sha(self.bears/f'black/{i}.png') for i in range(4)]

    def history(self, data):
        (self.bears/HOME).mkdir(exist_ok=True); (self.bears/HISTORY).write_bytes(data)

    def manifest(self, rows, file='manifest.csv'):
        full = dict.fromkeys(MANIFEST, 'x') | dict(rank='1', licence='CC0', size='9', perceptual_hash='0'*144, sha256='0'*64)
        rows = [full | dict(address=f'http://127.0.0.1/{i}') | {'class': 'black'} | o for i, o in enumerate(rows)]
        csv.DictWriter(b := io.StringIO(), MANIFEST).writeheader(); csv.DictWriter(b, MANIFEST).writerows(rows)
        if file: (self.bears/file).write_bytes(b.getvalue().encode('utf-8', 'surrogatepass'))
        return b.getvalue()

    def link(self, name, to): (self.bears/name).parent.mkdir(parents=True, exist_ok=True); (self.bears/name).symlink_to(to)

    def arrive(self):
        "As it comes out of an archive that keeps links"
        with tarfile.open(t := self.home/'x.tar', 'w') as f: f.add(self.bears, 'bears')
        shutil.rmtree(self.bears)
        with tarfile.open(t) as f: f.extractall(self.home, filter='fully_trusted')
        t.unlink()

    def opened(self):
        path, d = self.bears, None
        return [lambda: print(History(path)) or History(path).table, lambda: Decisions(path),
                lambda: print(repr(Decisions(path)), Decisions(path).conflicts), lambda: Decisions(path).pending,
                lambda: Decisions(path).kept, lambda: check_folder(path), lambda: print(verify(path)),
                lambda: main(['history', str(path)]), lambda: main(['verify', str(path)])]

    def done(self, order=0):
        path, d = str(self.bears), lambda: Decisions(self.bears)
        all = [lambda: main(['verify', path, '--undo']), lambda: main(['clean', path, '--undo']),
               lambda: main(['history', path, '--undo', '--all']), lambda: print(d().apply()),
               lambda: main(['verify', path, '--fix']), lambda: d().decide('black/3.png', DELETE),
               lambda: main(['clean', path, '--apply', f'{path}/decisions.csv', '--new-class']),
               lambda: main(['bundle', path, f'{path}/mine.zip']), lambda: d().drop('black/3.png'),
               lambda: print(undo(self.bears)), lambda: d().drop(), lambda: print(verify(path).fix())]
        k = order*len(all)//3
        return all[k:] + all[:k]

    def check(self, capsys, order=0):
        "Do it all: whatever is said is a sentence, and nothing outside changes or is opened"
        before, here = state(self.bears), os.path.realpath(self.bears)
        out = {k: v for k, v in state(self.home).items() if k.split('/')[0] != 'bears'}
        _watched[:], _seen[:] = [(os.path.realpath(self.home), [here])], []
        signal.signal(signal.SIGALRM, lambda *_: pytest.fail('it hangs'))
        signal.alarm(30)
        try:
            for f in self.opened():
                self.safely(f)
                assert ours(state(self.bears)) == ours(before), 'something was moved by opening it'
            for f in self.done(order): self.safely(f)
        finally: _watched.clear(); signal.alarm(0)
        assert not _seen
        assert {k: v for k, v in state(self.home).items() if k.split('/')[0] != 'bears'} == out
        said = ''.join(capsys.readouterr())
        assert not (odd := re.search(r'[\x00-\x09\x0b-\x1f\x7f-\x9f\ud800-\udfff]', said)), said[odd.start()-200:][:400]
        assert 'Traceback' not in said
        return said

    def safely(self, f):
        try: f()
        except BearclfError as e: print(e)


@pytest.fixture(scope='module')
def drawn(tmp_path_factory):
    path = tmp_path_factory.mktemp('drawn')
    for i in range(4):
        (path/'bears/black').mkdir(parents=True, exist_ok=True)
        draw_bear('black', i, 48).save(path/f'bears/black/{i}.png')
    draw_bear('teddy', 5, 48).save(path/'secret.png')
    return path

@pytest.fixture
def street(tmp_path, drawn): return Street(tmp_path/'home', drawn)


# --- names

NAMES = ['../secret.png', '{home}/secret.png', 'out/secret.png', 'black/out.png', 'out', 'empty', 'out/empty/inner',
         '../empty/inner', '../../etc', 'C:\\x.png', 'C:/x.png', '.git/hooks/x', HISTORY, HOME, ASIDE, f'{ASIDE}/out/x.png',
         f'{ASIDE}/../../../x', 'a\0b', 'x'*5000, 'black/' + 'x'*300, 'y/'*1500 + 'y', '\ud800.png', 'black/\udcff.png',
         'black/\x1b[2J\x9b2J\r.png', '', '.', '..', '/', 'black', 'black/', 'black//0.png', 'black/../../secret.png',
         '..\\secret.png', 'manifest.csv', 'decisions.csv', 'black/fifo.png', '~/secret.png']

def crafted(name, photos, secret):
    "A history in which `name` stands wherever a name or a class can"
    a, b, c, d = photos
    return b''.join([
        BEGIN, run(1), move(1, name, 'black/0.png', a, what=name, was=name), move(1, 'black/new.png', name, secret),
        move(1, 'black/new2.png', name, a, made=[name, f'{name}/x', '../empty/inner']), END,
        run(2, 'apply'), move(2, 'black/1.png', 'black/1.png', b, kind='apply', what=KEEP, made=['black/1', name]),
        move(2, name, 'black/2.png', c, kind='apply', what='teddy'), END, event(do='removed', folder=name),
        decide('black/2.png', name, c), decide(name, 'teddy', secret), decide(name, DELETE, d), decide(name, KEEP, b),
        decide('black/3.png', 'teddy', d, was=name)])

ENDS = dict(
    none=lambda n, p: b'', run=lambda n, p: run(3, 'apply') + move(3, n, 'black/3.png', p[3], kind='apply', n=1),
    undo=lambda n, p: run(1, do='undo'))


@pytest.mark.parametrize('end', ENDS)
@pytest.mark.parametrize('name', NAMES, ids=lambda o: ascii(o)[1:21])
def test_names_of_a_stranger(name, end, street, capsys):
    name = name.replace('{home}', str(street.home))
    street.link('out', '..'); street.link('black/out.png', '../../secret.txt'); street.link('empty', '../empty')
    street.link(f'{ASIDE}/out', '../../..'); os.mkfifo(street.bears/'black/fifo.png')
    street.history(crafted(name, street.photos, street.secret) + ENDS[end](name, street.photos))
    street.manifest([dict(file=name, sha256=street.secret), {'file': 'black/0.png', 'class': name},
                     dict(file='black/gone.png', sha256=sha256(b'../../secret.txt').hexdigest())])
    text = f'file,decision\n"{name}",delete\nblack/0.png,"{name}"\nblack/1.png,teddy\n'
    (street.bears/'decisions.csv').write_bytes(text.encode('utf-8', 'surrogatepass'))
    street.arrive()
    street.check(capsys, list(ENDS).index(end))
