"Every terminal and every home: what is printed arrives, and what is kept has a place"
import errno, json, os, subprocess, sys, sysconfig, threading
from pathlib import Path

import pytest

from bearclf import core
from bearclf.cli import main
from bearclf.core import cache_dir, cached, empty_cache, error_text, made_once
from bearclf.practice.drawn import draw_bears
from bearclf.ship.predict import model_facts
from helpers import python

command = Path(sysconfig.get_path('scripts'))/'bearclf'
ODD = os.fsdecode(b'\xff.jpg')
C = dict(LC_ALL='C', PYTHONUTF8='0', PYTHONCOERCECLOCALE='0')
no_text = pytest.mark.skipif(sys.platform != 'linux', reason='every name of a file is text there')


def typed(*args, **kw):
    env = os.environ | kw.pop('env', {})
    return subprocess.run([command, *map(str, args)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env, **kw)


@pytest.fixture
def zoo(tmp_path):
    "Class folders with a name that cp1252 does not know, and a file whose name is no text"
    path = tmp_path/'zoo'
    draw_bears(path, n=24, size=64, truncated=2, wrong_extension=2, duplicated=2)
    (path/'black').rename(path/'кот')
    for i, o in enumerate(sorted(path.glob('*/*.jpg'))[::7]): o.rename(o.with_name(f'{i}{ODD}'))
    return path

def files(path): return {os.fsencode(o.relative_to(path)): o.read_bytes() for o in path.rglob('*') if o.is_file()}


# --- encodings

def speak(encoding, *many):
    "In a child: what each of the commands `many` says, in a log with this encoding, and its status"
    sys.stdout, sys.stderr = (open(fd, 'w', encoding=encoding, closefd=False) for fd in (1, 2))
    for words in many: print('status', *words[:1], main([*map(str, words)]))

@no_text
@pytest.mark.parametrize('encoding', ['cp1252'] + [pytest.param(o, marks=pytest.mark.exhaustive) for o in
                                                   ('ascii', 'cp437', 'utf-8', 'latin-1', 'utf-16')])
def test_all_that_is_said_arrives(child, zoo, encoding):
    before, table = files(zoo), zoo.parent/'d.csv'
    odd, model = next(zoo.glob(f'кот/*{ODD}')), zoo.parent/'модель'
    table.write_text(f'file,decision\n{next(zoo.glob("teddy/*.jpg")).relative_to(zoo)},кот\nкот/none.jpg,teddy\n',
                     encoding='utf-8')
    c = child(speak, encoding, ['draw', zoo.parent/'ещё', '--n', 6, '--size', 32], ['verify', zoo, '--fix'],
              ['history', zoo], ['verify', zoo, '--undo'], ['clean', zoo, '--apply', table], ['clean', zoo, '--undo'],
              ['train', zoo, '--no-pretrained', '--epochs', 1, '--size', 32, '--out', model],
              ['evaluate', model, zoo], ['predict', model, odd, zoo/'ы.jpg'], ['app', '--model', 'кот'], ['--help'],
              ['cache'], ['кот'])
    c.process.join(300)
    said, err = (o.read_bytes() for o in (c.out, c.err))
    lines = (text := said.decode(encoding)).splitlines()
    assert c.process.exitcode == 0, text + err.decode(encoding)
    assert [int(o.split()[-1]) for o in lines if o.startswith('status')] == [0]*4 + [1] + [0]*3 + [1, 2, 0, 0, 2]
    assert b'Traceback' not in err and 'train_loss' in text
    cat = 'кот' if encoding[:3] == 'utf' else '\\u043a\\u043e\\u0442'
    assert cat in text and '\\udcff' in text, 'readable, where it cannot be shown'
    assert {k: v for k, v in files(zoo).items() if b'.bearclf/' not in k} == before
    c = child(speak, encoding, ['evaluate', model, zoo, '--json'], ['predict', model, odd, zoo/'ы.jpg', '--json'])
    c.process.join(300)
    found = [json.loads(o) for o in c.out.read_bytes().decode('ascii').splitlines() if o[:1] == '{']
    assert len(found) == 3 and found[1]['file'] == str(odd) and 'кот' in found[1]['probabilities']
    assert all(o.isascii() for o in lines if o.startswith('{'))


@no_text
@pytest.mark.parametrize('env', [dict(PYTHONIOENCODING='cp1252'), dict(PYTHONIOENCODING='cp437'), C], ids=str)
def test_a_new_process_says_all(zoo, env):
    "Photos are moved, and told, also where a log knows 256 signs; nothing but the tables is not ASCII"
    res = typed('verify', zoo, '--fix', env=env)
    assert res.returncode == 0 and b'files moved or renamed' in res.stdout, res.stderr
    assert b'\\udcff' in res.stdout and len(list((zoo/'.bearclf/aside').rglob('*.jpg'))) >= 2
    assert typed('verify', zoo, '--undo', env=env).returncode == 0 and typed('--help', env=env).returncode == 0


@no_text
@pytest.mark.parametrize('encoding', ['cp1252', 'ascii:strict', 'utf-8'])
def test_a_script_of_the_person(zoo, encoding):
    "To import bearclf is enough; what was chosen otherwise stays"
    code = f'''
import sys
print(sys.stdout.errors, end=' ')
from bearclf.folder.verify import verify
print(sys.stdout.errors)
print(verify({str(zoo)!r}), {ODD!r}, 'кот')'''.encode('utf-8', 'backslashreplace').decode()
    said = subprocess.run([sys.executable, '-c', code.replace('\\udcff', '\\\\udcff')], capture_output=True,
                          env=os.environ | {'PYTHONIOENCODING': encoding})
    assert said.returncode == 0 and b'findings' in said.stdout, said.stderr
    assert said.stdout.startswith(b'strict bearclf')
    for chosen in 'cp1252:replace', 'utf-8:surrogateescape':
        assert python('import sys, bearclf.core; print(sys.stdout.errors)', PYTHONIOENCODING=chosen
                      ).strip() == chosen.split(':')[1]


def test_the_block_of_a_bar_is_a_sign_that_each_output_has():
    assert 'кот 5 % |██|'.encode('ascii', 'bearclf') == b'\\u043a\\u043e\\u0442 5 % |##|'


@pytest.mark.skipif(os.name == 'nt', reason='no such devices')
@pytest.mark.parametrize('shell, status, said', [
    ('> /dev/full', 2, 'cannot be read or written'), ('| true; exit ${PIPESTATUS[0]}', 1, ''), ('>&-', 0, ''),
    ('>&- 2>&-', 0, '')], ids=str)
def test_an_output_that_takes_nothing(zoo, shell, status, said):
    "What was done was done whole, and can be taken back"
    before = files(zoo)
    code = f'sleep 1; "{command}" verify "{zoo}" --fix {shell}'
    res = subprocess.run(['bash', '-c', code], capture_output=True, text=True)
    assert res.returncode == status and said in res.stderr and res.stderr.count('\n') <= 1, res.stderr
    assert files(zoo) != before and typed('verify', zoo, '--undo').returncode == 0
    assert {k: v for k, v in files(zoo).items() if b'.bearclf/' not in k} == before


# --- homes

@pytest.fixture
def fresh(monkeypatch, tmp_path):
    "A process that has asked for no place yet, whose folder for temporary files is a new one"
    tmp = tmp_path/'tmp'
    tmp.mkdir()
    monkeypatch.setattr(core.tempfile, 'tempdir', str(tmp))
    monkeypatch.setattr(core, '_only_read', [])
    monkeypatch.setattr(core, '_made', {})
    monkeypatch.setenv('BEARCLF_CACHE', '')  # and what is put there goes when the test ends
    return tmp


@pytest.mark.skipif(sys.platform != 'linux', reason='/proc')
@pytest.mark.parametrize('place', ['file', 'file/x', '/proc/x', 'link'])
def test_a_cache_that_cannot_be_there(fresh, tmp_path, monkeypatch, capsys, place):
    place = tmp_path/place
    (tmp_path/'file').write_text(''); (tmp_path/'link').symlink_to('nowhere')
    monkeypatch.setenv('BEARCLF_CACHE', str(place))
    assert made_once(cached('bears', 'brown'), lambda p: p.write_text('a bear')).read_text() == 'a bear'
    assert cached('bears', 'brown').exists() and cache_dir().parent == fresh and empty_cache() >= 1
    said = capsys.readouterr()
    assert said.out == '' and said.err.count('\n') == 1 and str(place) in said.err and 'BEARCLF_CACHE' in said.err
    assert os.environ['BEARCLF_CACHE'] == str(cache_dir()), 'whoever is started from here looks there at once'
    assert cache_dir().stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize('number', [errno.EACCES, errno.EROFS, errno.ENOENT, errno.EPERM, errno.EIO])
@pytest.mark.parametrize('kind', ['', 'bears'])
def test_whatever_the_system_says(fresh, tmp_path, monkeypatch, capsys, number, kind):
    "Of the cache, or of one folder in it, as one that another user has made"
    bad, make = tmp_path/'home'/kind, core.tempfile.TemporaryFile
    def refuse(*args, dir, **kw):
        if bad in (dir, *dir.parents): raise OSError(number, os.strerror(number))
        return make(*args, dir=dir, **kw)
    monkeypatch.setattr(core.tempfile, 'TemporaryFile', refuse)
    monkeypatch.setenv('BEARCLF_CACHE', str(tmp_path/'home'))
    threads = [threading.Thread(target=cached, args=('bears', str(i))) for i in range(8)]
    for o in threads: o.start()
    for o in threads: o.join()
    assert cached('bears', 'x').parent.parent.parent == fresh and capsys.readouterr().err.count('BEARCLF_CACHE') == 1


def test_a_full_disk_is_no_reason_to_go_elsewhere(fresh, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv('BEARCLF_CACHE', str(tmp_path/'home'))
    def full(*_, **__): raise OSError(errno.ENOSPC, 'No space left on device')
    monkeypatch.setattr(core.tempfile, 'TemporaryFile', full)
    assert cached('bears', 'x') == tmp_path/'home/bears/x' and capsys.readouterr().err == ''


def test_what_lies_in_a_cache_that_can_only_be_read_is_used(fresh, tmp_path, monkeypatch):
    "As in a computer room, where somebody has made the models for all"
    monkeypatch.setenv('BEARCLF_CACHE', str(tmp_path/'home'))
    for o in 'models', 'locks': cached(o, 'x').write_text('made before')
    def refuse(*_, dir, make=core.tempfile.TemporaryFile, **__):
        if tmp_path/'home' in dir.parents: raise OSError(errno.EROFS, 'Read-only file system')
        return make(dir=dir)
    monkeypatch.setattr(core.tempfile, 'TemporaryFile', refuse)
    core._made.clear()
    assert cached('models', 'x').read_text() == 'made before' and fresh in cached('models', 'y').parents
    assert not cached('locks', 'x').exists(), 'it has to be written'


@pytest.mark.skipif(not hasattr(os, 'getuid'), reason='there each user has such a folder')
def test_nobody_else_can_have_prepared_the_temporary_cache(fresh, tmp_path, monkeypatch):
    "Models lie in it, and those are run"
    theirs = fresh/f'.bearclf-{os.getuid()}'
    for make in (lambda: theirs.mkdir(0o777) or theirs.chmod(0o777), lambda: theirs.symlink_to(tmp_path)):
        make()
        assert core._temporary() != theirs and core._temporary().stat().st_mode & 0o777 == 0o700
        theirs.rmdir() if not theirs.is_symlink() else theirs.unlink()
    assert core._temporary() == theirs == core._temporary(), 'and once it is ours, it stays'


# as root without the right to write everywhere, which any other user lacks as well
NO_RIGHT = ['setpriv', '--bounding-set', '-dac_override,-dac_read_search', '--inh-caps',
            '-dac_override,-dac_read_search'] if hasattr(os, 'getuid') and os.getuid() == 0 else []

def at_home(home, tmp_path, *words):
    "What a command says that has this home: its status and lines"
    env = {k: v for k, v in os.environ.items() if k not in (
        'HOME', 'BEARCLF_CACHE', 'TORCH_HOME', 'MPLCONFIGDIR', 'HF_HOME', 'XDG_CACHE_HOME', 'XDG_CONFIG_HOME')}
    env |= {'TMPDIR': str(tmp_path)} | ({} if home is None else {'HOME': str(home)})
    code = 'import os, sys; from bearclf.cli import main; sys.exit(main(sys.argv[1:]))'
    if home is None: code = 'import os, pwd; pwd.getpwuid = lambda _: {}[0]; ' + code  # a user whom nobody has entered
    res = subprocess.run([*NO_RIGHT, sys.executable, '-c', code, *map(str, words)], env=env, cwd=tmp_path,
                         capture_output=True, text=True)
    return res.returncode, res.stdout, [o for o in res.stderr.splitlines() if not o.endswith('...')]

@pytest.mark.skipif(sys.platform != 'linux', reason='setpriv')
@pytest.mark.parametrize('home', ['home', 'file', '/proc/none', None])
def test_a_home_that_cannot_be_written(tmp_path, home):
    "What is done is done, with one sentence; and nothing is put where the person is"
    draw_bears(tmp_path/'bears', n=6, size=64)
    (tmp_path/'home').mkdir(0o500); (tmp_path/'file').write_text('')
    status, out, err = at_home(home and tmp_path/home, tmp_path, 'verify', 'bears')
    assert status == 0 and '6 photos' in out and len(err) == 1 and 'BEARCLF_CACHE' in err[0], err
    assert {o.name for o in tmp_path.iterdir()} == {'bears', 'home', 'file', f'.bearclf-{os.getuid()}'}
    assert list(tmp_path.glob('.bearclf-*/prints/*')) and not list((tmp_path/'home').iterdir())

@pytest.mark.skipif(sys.platform != 'linux', reason='setpriv')
def test_others_that_want_a_home(demo_model, fresh_bears, tmp_path):
    "matplotlib does not complain; weights that somebody has put into the home are found there"
    (tmp_path/'home/.cache/torch').mkdir(parents=True)
    for o in tmp_path/'home/.cache', tmp_path/'home': o.chmod(0o500)
    status, out, err = at_home(tmp_path/'home', tmp_path, 'predict', demo_model, fresh_bears['teddy'][0],
                               '--trust')
    assert status == 0 and 'teddy' in out and [o.split()[0] for o in err] == ['Nothing', 'Opening'], err
    code = 'import bearclf.core, os; print(*(o in os.environ for o in ("TORCH_HOME", "HF_HOME", "MPLCONFIGDIR")))'
    said = subprocess.run([*NO_RIGHT, sys.executable, '-c', code], capture_output=True, text=True,
                          env=os.environ | {'HOME': str(tmp_path/'home'), 'TMPDIR': str(tmp_path)})
    assert said.stdout.split() == ['False', 'True', 'True'], said


# --- one sentence

WRONG = """verify none|verify notes.txt|verify notes.txt/x|verify none --undo|verify notes.txt --undo|verify
verify --nope bears
history none|history notes.txt|history notes.txt --undo|clean none --undo|clean notes.txt --undo|clean bears
clean bears --apply none.csv|clean bears --apply empty|clean bears --apply notes.txt|clean bears --report notes.txt
clean bears --report notes.txt/x|train none|train notes.txt|train bears --out notes.txt|train bears --bs 1
train bears --out notes.txt/x --no-pretrained|train bears --epochs x|evaluate none bears|evaluate empty bears
evaluate notes.txt none|evaluate notes.txt notes.txt|predict none x.jpg|predict empty x.jpg|predict notes.txt/x x.jpg
predict none|app --model none|app --model empty|app --model notes.txt/x|app --data none|app --data notes.txt
app --port 70000|app --port -1|app --port abc|app --port 8x|app --port 1e3|app --ip x.y.z.example|app --base-url //?x
app --data bears --port 70000|draw notes.txt --n 3|draw notes.txt/x --n 3|draw bears|draw x --n -3|draw x --size 0
collect notes.txt --class a|collect notes.txt/x --class a|collect x --bundle none.zip|collect x --bundle empty
collect x --bundle notes.txt|collect x --class a --n -1|collect x --class a --certificates none.pem|bundle none x.zip
bundle notes.txt x.zip|bundle empty x.zip|cache --empty none"""

@pytest.fixture(scope='module')
def wrong(tmp_path_factory):
    path = tmp_path_factory.mktemp('wrong')
    draw_bears(path/'bears', n=6, size=32)
    (path/'notes.txt').write_text('my notes'); (path/'empty').mkdir()
    return path

@pytest.mark.parametrize('words', WRONG.replace('\n', '|').split('|'))
def test_what_is_wrong_gets_one_sentence(wrong, monkeypatch, capfd, words):
    "And exit status 2, before anything else is said or done"
    monkeypatch.chdir(wrong)
    before = files(wrong)
    assert main(words.split()) == 2 and files(wrong) == before
    said = capfd.readouterr()
    assert said.err.startswith('bearclf: ') and said.err.count('\n') == 1 and said.out == '', said

@pytest.mark.parametrize('encoding', ['utf-8', 'utf-8-sig', 'utf-16', 'utf-16-le', 'cp1251'])
def test_a_json_in_another_encoding(tmp_path, encoding):
    "As an editor saves it: it is read, or there is a sentence"
    (tmp_path/'export.pkl').write_bytes(b'a model')
    text = json.dumps(dict(sha256=core.sha256_of(tmp_path/'export.pkl'), classes=['кот']), ensure_ascii=False)
    (tmp_path/'export.json').write_bytes(text.encode(encoding))
    if encoding == 'cp1251': assert 'is no UTF-8. Save it with this encoding' in error_text(model_facts, tmp_path)
    else: assert model_facts(tmp_path)['classes'] == ['кот']

def test_photos_that_are_none(child, demo_model, fresh_bears, tmp_path):
    "Folders, and what is not there; one that is a photo is answered"
    (tmp_path/'empty').mkdir()
    good, bad = str(fresh_bears['teddy'][0]), [str(tmp_path/o) for o in ('empty', 'none.jpg', 'empty/x.jpg')]
    c = child(speak, 'utf-8', ['predict', demo_model, *bad], ['predict', demo_model, good, *bad])
    assert c.finish().returncode == 0
    said = c.said().splitlines()
    assert said[3] == 'status predict 2' and 'teddy' in said[4] and said[8] == 'status predict 1' and len(said) == 9
