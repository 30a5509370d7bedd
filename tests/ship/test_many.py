"A great many photos: answers in parts, from one process or from Ray's; nothing is lost, and nothing is there twice"
import hashlib, json, os, random, shutil, signal, subprocess, sys, time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from onnx import numpy_helper

from bearclf.core import BearclfError
from bearclf.practice.drawn import draw_bears
from bearclf.ship import many
from bearclf.ship.many import predict_many
from bearclf.ship.predict import load_classifier
from crafted_onnx import FACTS, before, node
from helpers import LONG, seeds


def missing(*names):
    "Why this is not tested; in CI it is"
    absent = [o for o in names if not find_spec(o)]
    return pytest.mark.skipif(bool(absent) and not os.environ.get('CI'), reason=f'{absent} is not installed')

pytestmark = missing('pyarrow')


@pytest.fixture(scope='module')
def bears(tmp_path_factory):
    path = tmp_path_factory.mktemp('drawn')/'bears'
    draw_bears(path, 24, 64, seed=5)
    (path/'teddy'/'мишка 🧸.jpg').write_bytes(next(path.glob('teddy/*.jpg')).read_bytes())
    (path/'teddy'/'page.jpg').write_text('<html>')
    return path


def rows(out):
    import pyarrow.parquet as pq
    return pq.read_table(out).to_pylist()

def parts(out): return {o.name: o.read_bytes() for o in Path(out).glob('part-*')}

def small_parts(monkeypatch, n=5): monkeypatch.setattr(many, 'PART', n)


def test_a_folder(bears, demo_model, tmp_path, monkeypatch):
    "Each photo has its row in order, with what the classifier says when asked alone; a bad one says why"
    small_parts(monkeypatch)
    done = predict_many(demo_model, bears, tmp_path/'a.parquet')
    found, clf = rows(tmp_path/'a.parquet'), load_classifier(demo_model)
    names = sorted(o.relative_to(bears).as_posix() for o in bears.glob('*/*'))
    assert [o['file'] for o in found] == names and done == dict(photos=26, bad=1, before=0)
    assert 'teddy/мишка 🧸.jpg' in names and len(parts(tmp_path/'a.parquet')) == 6
    for o in found:
        if o['file'] == 'teddy/page.jpg':
            assert o['error'] == 'page.jpg is a web page, not an image.' and o['label'] is o['probability'] is None
        else:
            pred = clf(bears/o['file'])
            assert [*o.values()][1:] == [pred.label, pred.probability, pred.near, None]


@pytest.mark.parametrize('kind', ['parquet', 'csv', 'pattern', 'list', 'memory', 'memory pattern', 'memory csv'])
def test_addresses_of_any_kind(bears, demo_model, tmp_path, kind):
    files = sorted(map(str, bears.glob('teddy/*')))
    if 'memory' in kind:
        import fsspec
        fs = fsspec.filesystem('memory')
        for o in files: fs.pipe(f'/many/{os.path.basename(o)}', Path(o).read_bytes())
        fs.pipe('/list.csv', ('file\n' + ''.join(f'many/{os.path.basename(o)}\n' for o in files)).encode())
    if kind == 'parquet':
        import pyarrow as pa, pyarrow.parquet as pq
        pq.write_table(pa.table(dict(n=range(len(files)), file=files)), tmp_path/'list.parquet')
    (tmp_path/'list.csv').write_text('file\n' + ''.join(f'{o}\n' for o in files + files[:1]), encoding='utf-8')
    asked = {'parquet': tmp_path/'list.parquet', 'csv': tmp_path/'list.csv', 'pattern': str(bears/'teddy/*'),
             'list': files, 'memory': 'memory://many', 'memory pattern': 'memory://many/*.jpg',
             'memory csv': 'memory://list.csv'}[kind]
    done, clf = predict_many(demo_model, asked, tmp_path/'out'), load_classifier(demo_model)
    assert done == dict(photos=len(files), bad=1, before=0)
    said = [(os.path.basename(o['file']), o['probability']) for o in rows(tmp_path/'out')]
    assert said == [(os.path.basename(o), None if 'page' in o else clf(o).probability) for o in files]


def test_what_is_not_there_is_a_row_and_a_store_that_fails_is_not(bears, demo_model, tmp_path, monkeypatch):
    import fsspec
    fs = fsspec.filesystem('memory')
    fs.pipe('/cut/a.jpg', next(bears.glob('teddy/*.jpg')).read_bytes())
    predict_many(demo_model, ['memory://cut/a.jpg', 'memory://cut/b.jpg'], tmp_path/'out')
    assert [bool(o['error']) for o in rows(tmp_path/'out')] == [False, True]
    def fails(*args, **kw): raise ConnectionError('no route')
    monkeypatch.setattr(type(fs), '_open', fails)
    with pytest.raises(BearclfError, match='cannot be had now.*no route'):
        predict_many(demo_model, ['memory://cut/a.jpg'], tmp_path/'other')
    assert not parts(tmp_path/'other')


def test_names_that_are_no_unicode(bears, demo_model, tmp_path):
    if sys.platform != 'linux': pytest.skip('only Linux has such names')
    odd = os.fsdecode(os.fsencode(tmp_path) + b'/photos/b\xff.jpg')
    os.mkdir(tmp_path/'photos')
    shutil.copy(next(bears.glob('teddy/*.jpg')), odd)
    assert predict_many(demo_model, tmp_path/'photos', tmp_path/'out')['bad'] == 0
    assert [o['file'] for o in rows(tmp_path/'out')] == ['b\\udcff.jpg']


def test_only_what_is_not_there_is_done(bears, demo_model, tmp_path, monkeypatch):
    "A part that is missing or damaged is done again, to the byte; the others are not touched"
    small_parts(monkeypatch)
    out = tmp_path/'out'
    predict_many(demo_model, bears, out)
    whole = parts(out)
    (out/'part-000001.parquet').unlink()
    (out/'part-000003.parquet').write_bytes(whole['part-000003.parquet'][:100])
    (out/'.0123456789ab.parquet').write_bytes(b'half')
    before = (out/'part-000000.parquet').stat().st_ino
    assert predict_many(demo_model, bears, out) == dict(photos=26, bad=1, before=16)
    assert parts(out) == whole and (out/'part-000000.parquet').stat().st_ino == before
    assert {o.name for o in out.iterdir()} - {*whole} <= {'_about.json', '.lock'}


def test_what_is_not_ours_is_not_touched(bears, demo_model, tmp_path):
    theirs = tmp_path/'theirs'
    theirs.mkdir()
    (theirs/'part-000000.parquet').write_text('mine')
    (tmp_path/'file.parquet').write_text('mine')
    for o in theirs, tmp_path/'file.parquet':
        with pytest.raises(BearclfError, match='holds no answers of bearclf'): predict_many(demo_model, bears, o)
    assert [o.name for o in theirs.iterdir()] == ['part-000000.parquet']
    assert (tmp_path/'file.parquet').read_text() == 'mine'


def test_other_photos_and_another_model_are_told(bears, demo_model, tmp_path):
    out = tmp_path/'out'
    predict_many(demo_model, bears/'teddy', out)
    was = parts(out)
    shutil.copytree(bears/'teddy', tmp_path/'same names')
    for other in bears/'black', tmp_path/'same names':
        with pytest.raises(BearclfError, match='another list of photos'): predict_many(demo_model, other, out)
    text = (out/'_about.json').read_text()
    (out/'_about.json').write_text(text.replace('"model": "', '"model": "0'))
    with pytest.raises(BearclfError, match='another model'): predict_many(demo_model, bears/'teddy', out)
    (out/'_about.json').write_text('{')
    with pytest.raises(BearclfError, match='damaged'): predict_many(demo_model, bears/'teddy', out)
    assert parts(out) == was


@pytest.mark.parametrize('wrong, said', [
    (dict(photos='nowhere'), 'There are no photos in nowhere'), (dict(photos='nope://a'), 'nope://a cannot be opened'),
    (dict(photos='no.parquet'), 'is no table'), (dict(photos='no.csv'), 'no.csv'), (dict(photos=''), 'empty'),
    (dict(workers=-1), 'no number of processes')])
def test_one_sentence(bears, demo_model, tmp_path, monkeypatch, wrong, said):
    monkeypatch.chdir(tmp_path)
    asked = dict(model=demo_model, photos=bears, out='out') | wrong
    with pytest.raises(BearclfError, match=said): predict_many(**asked)
    assert not os.path.lexists('out')


def test_without_ray(bears, demo_model, tmp_path, monkeypatch):
    monkeypatch.setattr(many, 'find_spec', lambda name: name != 'ray')
    with pytest.raises(BearclfError, match='ray is not installed'): predict_many(demo_model, bears, tmp_path/'out', 2)


# --- the command, and its death

def command(*words):
    return subprocess.Popen([sys.executable, '-m', 'bearclf', *map(str, words)], stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True, encoding='utf-8', start_new_session=True)

def said(proc):
    try: out, err = proc.communicate(timeout=15*LONG)
    finally: proc.poll() is None and os.killpg(proc.pid, signal.SIGKILL)
    return proc.returncode, out, ''.join(o for o in err.splitlines(True) if not o.startswith('Looking at the photos'))


def test_the_command(bears, demo_model, tmp_path):
    words = 'predict', demo_model, bears, '--out', tmp_path/'a.parquet'
    first, again = said(command(*words)), said(command(*words))
    assert first == (1, f'Answers for 26 photos are in {tmp_path/"a.parquet"}; '
                     '1 could not be read, and say why in the column error.\n', '')
    assert '26 were there before' in again[1] and again[0] == 1
    status, _, err = said(command('predict', demo_model, bears/'teddy', '--workers', 2))
    assert (status, err.count('\n')) == (2, 1) and '--workers goes with --out' in err


@pytest.fixture(scope='module')
def tiny(tmp_path_factory):
    "A network of one layer: quick, and its sums are long enough to differ if they were added in another order"
    home, w = tmp_path_factory.mktemp('tiny'), np.random.default_rng(0).normal(size=(3, 3, 9, 9)).astype('float32')
    data = before(node('Conv', 'photo w'), weights=[numpy_helper.from_array(w, 'w')]).SerializeToString()
    (home/'export.onnx').write_bytes(data)
    own = FACTS['portable'] | dict(sha256=hashlib.sha256(data).hexdigest())
    (home/'export.json').write_text(json.dumps(FACTS | dict(portable=own)))
    return home


def crowd(path, bears, n):
    "`n` photos under as many names, every hundredth of them bad; links to a few files"
    few = sorted(bears.glob('*/*0*.jpg'))
    (path/'bad').mkdir(parents=True)
    (path/'bad/0.jpg').write_bytes(few[0].read_bytes()[:200])
    for i in range(n):
        (path/'photos'/f'{i % 100:02}').mkdir(parents=True, exist_ok=True)
        os.link(path/'bad/0.jpg' if i % 100 == 7 else few[i % len(few)], path/'photos'/f'{i % 100:02}'/f'{i}.jpg')
    return path/'photos'


@pytest.mark.skipif(os.name == 'nt', reason='there is no kill -9')
@pytest.mark.parametrize('seed', seeds(5))
def test_killed_at_any_moment(bears, tiny, tmp_path, seed):
    "What `kill -9` leaves is whole parts; in the end the answers are those of a run that nobody has killed"
    photos, moment = crowd(tmp_path, bears, 5000), random.Random(seed)
    predict_many(tiny, photos, tmp_path/'whole')
    words, left = ('predict', tiny, photos, '--out', tmp_path/'killed'), []
    for wanted in 1, 2:
        proc = command(*words)
        while proc.poll() is None and len(parts(tmp_path/'killed')) < wanted: time.sleep(.01)
        time.sleep(moment.random()*.3)
        assert proc.poll() is None
        os.killpg(proc.pid, signal.SIGKILL)
        said(proc)
        left.append(parts(tmp_path/'killed'))
    assert 1 <= len(left[0]) and left[0].items() <= left[1].items() and len(left[1]) < 5
    status, text, _ = said(command(*words))
    assert status == 1 and f'{1000*len(left[1]):,} were there before' in text
    assert parts(tmp_path/'killed') == parts(tmp_path/'whole')


# --- Ray


@pytest.fixture(scope='module')
def twenty_thousand(bears, tiny, tmp_path_factory):
    "Photos, and the parts of one process's answers"
    path = tmp_path_factory.mktemp('crowd')
    photos = crowd(path, bears, 20_000)
    assert predict_many(tiny, photos, path/'whole') == dict(photos=20_000, bad=200, before=0)
    assert len({o['file'] for o in rows(path/'whole')}) == 20_000
    return photos, parts(path/'whole')


def of_ray():
    "The processes that hold the model"
    import psutil
    return [o for o in psutil.process_iter(['name', 'cmdline'])
            if 'ray::MapWorker' in ' '.join([o.info['name'] or '', *(o.info['cmdline'] or [])])]

def rays():
    import psutil
    return [o for o in psutil.process_iter(['name']) if o.info['name'] in ('raylet', 'gcs_server')]

def wait(until, seconds=5*LONG):
    end = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < end
        time.sleep(.05)


@pytest.mark.exhaustive
@missing('ray')
@pytest.mark.parametrize('workers', [1, 2])
def test_ray_gives_the_answers_of_one_process(twenty_thousand, tiny, tmp_path, workers):
    photos, whole = twenty_thousand
    done = said(command('predict', tiny, photos, '--out', tmp_path/'out', '--workers', workers))
    assert done == (1, f'Answers for 20,000 photos are in {tmp_path/"out"}; '
                    '200 could not be read, and say why in the column error.\n', '')
    assert parts(tmp_path/'out') == whole


@pytest.mark.exhaustive
@missing('ray')
def test_a_worker_that_is_killed_is_replaced(twenty_thousand, tiny, tmp_path):
    import psutil
    photos, whole = twenty_thousand
    proc = command('predict', tiny, photos, '--out', tmp_path/'out', '--workers', 2)
    wait(lambda: proc.poll() is not None or len(parts(tmp_path/'out')) >= 4)
    own = {o.pid for o in psutil.Process(proc.pid).children(recursive=True)}
    victim, *_ = [o for o in of_ray() if o.pid in own]
    beyond = [c.laddr.ip for o in [proc.pid, *own] for c in psutil.Process(o).net_connections('inet')
              if c.status == 'LISTEN' and not c.laddr.ip.removeprefix('::ffff:').startswith('127.')]
    victim.kill()
    status, text, _ = said(proc)
    assert status == 1 and '20,000 photos' in text and beyond == []
    assert parts(tmp_path/'out') == whole


@pytest.mark.exhaustive
@missing('ray')
def test_all_of_it_is_killed_and_started_again(twenty_thousand, tiny, tmp_path):
    "It goes on where it was, also in another way: nothing of Ray's is left, and the parts are to the byte the same"
    (photos, whole), others = twenty_thousand, {o.pid for o in rays()}
    words = 'predict', tiny, photos, '--out', tmp_path/'out'
    proc = command(*words, '--workers', 2)
    wait(lambda: proc.poll() is not None or len(parts(tmp_path/'out')) >= 5)
    assert proc.poll() is None
    proc.kill()
    proc.wait()
    wait(lambda: not [o for o in rays() if o.pid not in others])
    kept = parts(tmp_path/'out')
    assert 5 <= len(kept) < 20 and kept.items() <= whole.items()
    status, text, _ = said(command(*words, '--workers', 2))
    assert status == 1 and f'{1000*len(kept):,} were there before' in text
    assert parts(tmp_path/'out') == whole


@missing('moto', 's3fs')
@pytest.mark.exhaustive
def test_an_object_store(bears, demo_model, tmp_path, monkeypatch):
    "moto's S3 on loopback: the answers are those for the same files on disk"
    from moto.server import ThreadedMotoServer
    server = ThreadedMotoServer('127.0.0.1', 0)
    server.start()
    try:
        for k, v in dict(AWS_ENDPOINT_URL='http://{}:{}'.format(*server.get_host_and_port()), AWS_ACCESS_KEY_ID='a',
                         AWS_SECRET_ACCESS_KEY='b', AWS_DEFAULT_REGION='us-east-1').items(): monkeypatch.setenv(k, v)
        import s3fs
        s3fs.S3FileSystem.clear_instance_cache()
        fs = s3fs.S3FileSystem()
        fs.mkdir('reserve')
        for o in bears.glob('*/*'): fs.pipe(f'reserve/{o.relative_to(bears).as_posix()}', o.read_bytes())
        assert predict_many(demo_model, 's3://reserve', tmp_path/'far') == dict(photos=26, bad=1, before=0)
    finally: server.stop()
    predict_many(demo_model, bears, tmp_path/'near')
    assert rows(tmp_path/'far') == rows(tmp_path/'near')
