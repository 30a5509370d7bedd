"What a stranger has packed is data: nothing outside of it is touched, and opening it moves nothing"
import csv, io, os, re, shutil, signal, stat, subprocess, sys, tarfile, zipfile, zlib
from hashlib import sha256
from pathlib import Path

import pytest

from helpers import python

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

def _looks(file):
    "Whether this is only a look at a photo that is a link: data sets on another disk are made of those"
    frame = sys._getframe()
    while frame and frame.f_code.co_name not in ('look_at', '_is_same', '_own_photo'): frame = frame.f_back
    return frame and os.path.islink(file)

def _watch(event, args):
    "What a process does is told to this: what opens or changes a path outside is noted"
    if not _watched or event not in WATCHED: return
    out, but = _watched[0]
    for o in args[:2]:
        if not isinstance(o, (str, bytes, os.PathLike)): continue
        try: real = os.path.realpath(os.fsdecode(o) if event == 'open' else os.path.dirname(os.fsdecode(o)))
        except ValueError: continue
        outside = f'{real}/'.startswith(f'{out}/') and not any(f'{p}/'.startswith(f'{q}/') for q in but
                                                               for p in (real, os.path.realpath(o)))
        if outside and not _looks(o): _seen.append((event, *map(str, args[:2])))

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
    return event(**dict(do='decide', photo=photo, was=photo, what=what, sha=sha, size=9, once=False, blind=False,
                        twins=[]) | kw)

def run(number, kind='verify', do='run', **kw): return event(**dict(do=do, run=number, kind=kind, n=3) | kw)

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
        full = dict.fromkeys(MANIFEST, 'x') | dict(rank='1', licence='CC0', size='9', perceptual_hash='0'*144,
                                                   sha256='0'*64)
        rows = [full | dict(address=f'http://127.0.0.1/{i}') | {'class': 'black'} | o for i, o in enumerate(rows)]
        csv.DictWriter(b := io.StringIO(), MANIFEST).writeheader(); csv.DictWriter(b, MANIFEST).writerows(rows)
        if file: (self.bears/file).write_bytes(b.getvalue().encode('utf-8', 'surrogatepass'))
        return b.getvalue()

    def link(self, name, to):
        (self.bears/name).parent.mkdir(parents=True, exist_ok=True)
        (self.bears/name).symlink_to(to)

    def arrive(self):
        "As it comes out of an archive that keeps links"
        with tarfile.open(t := self.home/'x.tar', 'w') as f: f.add(self.bears, 'bears')
        shutil.rmtree(self.bears)
        with tarfile.open(t) as f:
            f.extraction_filter = lambda member, _: member  # all that is in it; older Pythons know no other way
            f.extractall(self.home)
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
        odd = re.search(r'[\x00-\x09\x0b-\x1f\x7f-\x9f\ud800-\udfff]', said)
        assert not odd, ascii(said[max(0, odd.start()-200):][:400])
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

NAMES = ['../secret.png', '{home}/secret.png', 'out/secret.png', 'black/.out.png', 'out', 'empty', 'out/empty/inner',
         '../empty/inner', '../../etc', 'C:\\x.png', 'C:/x.png', '.git/hooks/x', HISTORY, HOME, ASIDE,
         f'{ASIDE}/out/x.png', f'{ASIDE}/../../../x', 'a\0b', 'x'*5000, 'black/' + 'x'*300, 'y/'*1500 + 'y',
         '\ud800.png', 'black/\udcff.png', 'black/\x1b[2J\x9b2J\r.png',
         '', '.', '..', '/', 'black', 'black/', 'black//0.png',
         'black/../../secret.png',
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


CASES = [pytest.param(name, end, id=f'{ascii(name)[1:21]}-{end}', marks=[pytest.mark.exhaustive]*((i + j) % 3 > 0))
         for i, name in enumerate(NAMES) for j, end in enumerate(ENDS)]

@pytest.mark.parametrize('name, end', CASES)
def test_names_of_a_stranger(name, end, street, capsys):
    name = name.replace('{home}', str(street.home))
    street.link('out', '..'); street.link('black/.out.png', '../../secret.txt'); street.link('empty', '../empty')
    street.link(f'{ASIDE}/out', '../../..'); os.mkfifo(street.bears/'black/fifo.png')
    street.history(crafted(name, street.photos, street.secret) + ENDS[end](name, street.photos))
    street.manifest([dict(file=name, sha256=street.secret), {'file': 'black/0.png', 'class': name},
                     dict(file='black/gone.png', sha256=sha256(b'../../secret.txt').hexdigest())])
    text = f'file,decision\n"{name}",delete\nblack/0.png,"{name}"\nblack/1.png,teddy\n'
    (street.bears/'decisions.csv').write_bytes(text.encode('utf-8', 'surrogatepass'))
    street.arrive()
    street.check(capsys, list(ENDS).index(end))


# --- lines that make no sense, though their checksums are right

def lines(p):
    "What makes no sense -> lines"
    good = dict(do='move', run=1, kind='verify', photo='black/a.png', to='black/0.png', sha=p[0], was='x', what='x',
                size=9, once=False, made=[])
    decided = dict(do='decide', photo='black/1.png', was='black/1.png', what='teddy', sha=p[1], size=9, once=False,
                   blind=False, twins=[])
    odd = None, -1, 10**4299, 1.5, 'x', [], {}, True, ['black/0.png'], [[]*9], '\x1b[2J', float('inf')
    wrong = [e | {k: o} for e in (good, decided) for k in e for o in odd]
    missing = [{k: v for k, v in e.items() if k != gone} for e in (good, decided) for gone in e]
    begun = [dict(do=do, run=n, kind=k, n=m) for do in ('run', 'undo') for n in odd for k in ('apply', 2)
             for m in (3, *odd)]
    deep = b'['*10**6 + b']'*10**6
    cycle = [run(9), *[move(9, f'black/{a}.png', f'black/{b}.png', p[b]) for a, b in ((0, 1), (1, 2), (2, 0))]]
    return dict(
        types=[event(**e) for e in wrong], missing=[event(**e) for e in missing], begun=[event(**e) for e in begun],
        do=[event(do=o, version=v) for o in odd for v in odd], version=[BEGIN, event(do='begin', version=9)],
        moves=[run(1, moves=o, undone=o) for o in ('abc', {'x': 3}, [1], dict(x=good | dict(photo='../x')))] + [END],
        drops=[event(do='drop', photo=o) for o in odd] + [event(do='drop', photo='x', sha=o) for o in odd],
        back=[event(do='back', run=o, photo='x', gone=True) for o in odd], cycle=cycle,
        cycle_stopped=cycle + [run(9, do='undo')],
        removed=[event(do='removed', folder=o) for o in odd],
        bytes=[b'\xff\xfe\n', b'\0'*999 + b'\n', b'zzzzzzzz {}\n'],
        twice=[run(1), move(1, 'black/a.png', 'black/0.png', p[0]), move(1, 'black/a.png', 'black/1.png', p[1]),
               run(1), run(1),
               move(2, 'black/a.png', 'black/0.png', p[0]), move(2**60, 'a', 'b', 'c'), run(0), END,
               run(1, 'apply', by='we')],
        deep=[b'%08x %s\n' % (zlib.crc32(deep), deep)], huge=[b'x'*10**7],
        many=[b'damaged %d\n' % i for i in range(10**5)],
        said=[run(1, when='\x9b\r'), move(1, 'black/a.png', 'black/0.png', p[0], what='\x07', kind='\x1b[2J'), END,
              decide('black/1.png', '\x1b]0;x\x07', p[1]),
              decide('black/1.png', 'teddy', p[1], by='\x1b', when='\x1b[1A'),
              run(2, '\x1b[8m'),
              move(2, 'black/0.png', 'black/a.png', 'x', kind='\x1b'), run(2, '\x1b[8m', n=2**52)])

ODD = ('types missing begun do version moves drops back cycle cycle_stopped removed bytes twice deep huge many '
       'said').split()

@pytest.mark.parametrize('which', ODD)
@pytest.mark.parametrize('order', [0, *[pytest.param(i, marks=pytest.mark.exhaustive) for i in (1, 2)]])
def test_lines_that_make_no_sense(which, order, street, capsys):
    all = lines(street.photos)
    assert [*all] and {*ODD} == {*all}
    street.history(b''.join(all[which]))
    assert len(street.check(capsys, order)) < 60_000, 'it says too much'


# --- what lies where our files belong

PLACES = dict.fromkeys(('link', 'link to a folder', 'folder', 'pipe', 'sparse', 'hard link'), [
    HOME, ASIDE, HISTORY, f'{HOME}/.lock', 'manifest.csv', 'decisions.csv', 'left_out.csv', 'black', 'teddy',
    f'{ASIDE}/black', 'black/1.png'])

@pytest.mark.parametrize('place, what', [
    pytest.param(p, k, marks=[pytest.mark.exhaustive]*((i + j) % 2)) for j, k in enumerate(PLACES)
    for i, p in enumerate(PLACES[k])])
def test_where_our_files_belong(place, what, street, capsys):
    file = street.bears/place
    street.history(crafted('teddy', street.photos, street.secret)[:-1])
    street.manifest([dict(file='black/0.png', sha256=street.photos[0])])
    (street.bears/'decisions.csv').write_text('file,decision\nblack/1.png,delete\n')
    if file.is_dir(): shutil.rmtree(file)
    else: file.unlink(missing_ok=True)
    file.parent.mkdir(exist_ok=True, parents=True)
    up = '../'*(len(place.split('/')))
    if what == 'link': file.symlink_to(f'{up}full/{"manifest.csv" if "csv" in place else "history.jsonl"}')
    if what == 'link to a folder': file.symlink_to(f'{up}full')
    if what == 'folder': file.mkdir(); (file/'x').write_text('x')
    if what == 'pipe': os.mkfifo(file)
    if what == 'hard link': os.link(street.home/'full/manifest.csv', file)  # tar can
    else: street.arrive()
    if what == 'sparse':
        with open(file, 'wb') as f: f.truncate(2 << 30)
    street.check(capsys, len(place) % 3)


# --- bundles, and folders that are collected into

def packed(street, name, odd=None):
    "A bundle whose rows and members are called `name`"
    photo, file = (street.bears/'black/0.png').read_bytes(), street.bears/'stranger.zip'
    good = dict(file='black/0.png', sha256=street.photos[0], title='\x1b[2J', licence='CC0\x1b[2J', size='9'*5000)
    rows = good, dict(good, file=name), good | {'class': name}, dict(good, address='\x9b'), dict(good, page=name)
    text = street.manifest(rows, file=None)
    with zipfile.ZipFile(file, 'w', zipfile.ZIP_LZMA if odd == 'lzma' else 0) as z:
        z.writestr('manifest.csv', text.encode('utf-8', 'surrogatepass'))
        for o in {'black/0.png', name}:
            try: z.writestr(o, photo)
            except (ValueError, IndexError): pass  # no zip can hold it
        z.writestr('é.png', photo)
    data = file.read_bytes()
    changed = {'lzma': data[:60] + b'\xff'*40 + data[100:], 'half': data[:999],
               'names': data.replace('é'.encode(), b'\xff\xfe'),
               'method': data.replace(b'PK\x01\x02\x14\x03\x14\0\0\0\0\0', b'PK\x01\x02\x14\x03\x14\0\0\0\x63\0'),
               'password': data.replace(b'PK\x01\x02\x14\x03\x14\0\0\0', b'PK\x01\x02\x14\x03\x14\0\1\0'), 'none': b''}
    file.write_bytes(changed.get(odd, data))
    if odd == 'sparse': os.truncate(file, 2 << 30)
    return file

BUNDLES = [(o, None) for o in NAMES] + [
    ('black/x.png', o) for o in ('lzma', 'names', 'half', 'method', 'password', 'none', 'sparse')]

@pytest.mark.parametrize('name, odd', [pytest.param(*o, marks=[pytest.mark.exhaustive]*(i % 4 > 0 and not o[1]))
                                       for i, o in enumerate(BUNDLES)], ids=lambda o: ascii(o)[1:21])
def test_bundles_of_a_stranger(name, odd, street, capsys):
    name = name.replace('{home}', str(street.home))
    street.history(crafted(name, street.photos, street.secret))
    street.link('out', '..'); street.link('black/see.png', '../../secret.png')
    text = b'class,term,rank,address,page,engine,downloaded,reason,try_again,when\nblack,x,1,a,b,c,yes,"\x1b[2J\r",,\n'
    (street.bears/'left_out.csv').write_bytes(text)
    street.manifest([dict(file='black/0.png', sha256=street.photos[0], size='9'*5000),
                     dict(file='black/gone.png', sha256=sha256(b'../../secret.png').hexdigest(), size='16')])
    street.arrive()
    file = packed(street, name, odd)
    street.opened = lambda: []
    street.done = lambda order: [lambda: main(['collect', str(street.bears), '--bundle', str(file)]),
                                 lambda: main(['collect', str(street.bears/'got'), '--bundle', str(file)]),
                                 lambda: print(collect(file, street.bears/'got')),
                                 lambda: bundle(street.bears, file),
                                 lambda: bundle(street.bears, street.bears/'my', True)]
    street.check(capsys)
    secret = (street.home/'secret.png').read_bytes()
    assert all(held != secret for *_, held in state(street.bears).values())
    with zipfile.ZipFile(street.bears/'my.zip') as z: assert all(z.read(o) != secret for o in z.namelist())


@pytest.mark.parametrize('text', [
    'file,decision\n' + 'a"b,"c\n'*10**5, ','.join(['file,decision', *map(str, range(10**5))]),
    'file,decision\n' + '"'*10**6, 'file,decision\n' + 'x,'*10**6], ids=range(4))
def test_tables_that_never_end(text, street, capsys):
    street.opened, street.done = lambda: [], lambda order: [lambda: Table(text.encode(), ('file', 'decision'))]
    street.check(capsys)


# --- the ways in which it arrives, and what takes longer to look at it

no_zip = pytest.mark.skipif(not (shutil.which('zip') and shutil.which('unzip')), reason='there is no zip here')

@pytest.mark.parametrize('way', ['zipfile', pytest.param('zip', marks=no_zip)])
def test_zips_of_a_stranger(way, street, capsys):
    named = lambda o: o.replace('{home}', str(street.home))
    street.history(b''.join(crafted(named(o), street.photos, street.secret) for o in NAMES[:12]))
    street.link('out', '..'); street.link('black/.out.png', '../../secret.txt')
    street.link(f'{ASIDE}/black', '../../../full')
    z = street.home/'x.zip'
    if way == 'zip': subprocess.run(['zip', '-qry', z, 'bears'], cwd=street.home, check=True)
    else:
        with zipfile.ZipFile(z, 'w') as f:
            for o in street.bears.rglob('*'): f.write(o, os.path.relpath(o, street.home))
    shutil.rmtree(street.bears)
    if way == 'zip': subprocess.run(['unzip', '-q', z], cwd=street.home, check=True)
    else:
        with zipfile.ZipFile(z) as f: f.extractall(street.home)
    assert (street.bears/'out').is_symlink() == (way == 'zip')
    street.check(capsys)


def look_for_long(home):
    "In a process of its own, whose prints are looked at: what trains"
    from bearclf.clean.loop import CleaningLoop
    from bearclf.train.features import precomputed_learner
    bears = home/'bears'
    before = ours(state(bears))
    _watched[:] = [(os.path.realpath(home), [os.path.realpath(bears)])]
    os.chdir(bears/'work')
    assert main(['train', str(bears), '--precompute', '--out', 'model']) == 0
    assert main(['clean', str(bears), '--report', 'report']) == 0
    loop = CleaningLoop(precomputed_learner(bears), bears)
    print(loop.error, loop.labels(), loop.decisions)
    _watched.clear()
    assert not _seen, _seen
    assert {k: v for k, v in ours(state(bears)).items() if k in before} == before
    loop.decisions.apply()


@pytest.mark.exhaustive
def test_what_trains_moves_nothing(street, capsys):
    for k in 'black', 'teddy':
        (street.bears/k).mkdir(exist_ok=True)
        for i in range(12): draw_bear(k, i + 20, 64).save(street.bears/f'{k}/n{i}.png')
    names = [o for o in NAMES if len(o) < 99]
    named = lambda o: o.replace('{home}', str(street.home))
    street.history(b''.join(crafted(named(o), street.photos, street.secret) for o in names) + run(1, do='undo'))
    street.link('out', '..'); street.link('black/.out.png', '../../secret.txt')
    street.arrive(); (street.bears/'work').mkdir()
    said = python('import sys; sys.path[:0] = ["tests", "tests/folder"]; import test_strangers as t; '
                  f't.look_for_long(t.Path({str(street.home)!r}))')
    assert not re.search(r'[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]', said)
    assert sha(street.home/'secret.png') == street.secret and (street.home/'empty/inner').exists()
