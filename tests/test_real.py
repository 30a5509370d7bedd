"Real photos with their real mess, and real ImageNet weights"
import json, os, shutil

import pytest

from bearclf.clean.decisions import Decisions
from bearclf.cli import main
from bearclf.folder.look import find_photos
from bearclf.folder.moves import DELETE, KEEP, undo
from bearclf.folder.verify import verify
from helpers import top
from test_notebooks import run as run_notebook


@pytest.fixture(scope='session')
def run(shared, child):
    "What the command says"
    def _run(*args):
        res = child(main, [*map(str, args)], env=os.environ | {'TORCH_HOME': str(shared/'torch')}).finish()
        assert res.returncode == 0, res.stderr[-3000:]
        return res.stdout
    return _run


def test_every_photo_is_found_and_the_rest_is_named(shared):
    from fastai.vision.all import get_image_files
    from bearclf.folder.look import check_folder
    report = check_folder(shared/'bears')
    files = [o for o in (shared/'bears').rglob('*') if o.is_file()]
    assert len(files) == 168 and len(report.photos) == 162
    assert {o.name for o in report.left_out} == {o.name for o in files if o.read_bytes()[:1] not in b'\xff\x89RG'}
    assert len(get_image_files(shared/'bears')) == 126


@pytest.fixture(scope='module')
def model(run, shared, tmp_path_factory):
    out = tmp_path_factory.mktemp('real')
    text = run('train', shared/'bears', '--arch', 'squeezenet1_0', '--epochs', 4, '--out', out)
    return out, text


def test_training_on_the_mess(model):
    out, text = model
    assert '162 photos of 3 classes' in text and '00000123.jpg?itok=COe4LoKt' in text and '6 files left out' in text
    assert json.loads((out/'export.json').read_text())['n_photos'] == 162


def test_photos_it_never_saw(run, shared, model):
    found = json.loads(run('evaluate', model[0], shared/'bears_unseen', '--json'))
    assert found['n'] == 252 and found['error_rate'] < 0.08, found


def test_collecting_real_files(shared, tmp_path, monkeypatch):
    "The student's files, served as they lie on his disk: what cannot be read is named, and near copies come once"
    import threading
    from functools import partial
    from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
    from urllib.parse import quote
    from bearclf.folder.look import class_of
    from bearclf.folder.look import check_folder
    from bearclf.collect.collect import collect
    from bearclf.collect.search import ENGINES, ImageResult
    monkeypatch.setenv('BEARCLF_CACHE', str(tmp_path/'cache'))
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args): pass
    site = ThreadingHTTPServer(('127.0.0.1', 0), partial(Quiet, directory=str(shared/'bears')))
    threading.Thread(target=site.serve_forever, daemon=True).start()
    def student(term, page, safe, web):
        files = sorted(o for o in (shared/'bears'/term).iterdir() if o.is_file())
        return [ImageResult(f'http://127.0.0.1:{site.server_port}/{term}/{quote(o.name)}')
                for o in files] if page == 1 else []
    monkeypatch.setitem(ENGINES, 'student', student)
    res = collect(['black', 'grizzly', 'teddy'], tmp_path/'bears', n=200, engine='student', cache_days=0,
                  allow_hosts=['127.0.0.1'])
    site.shutdown()
    before, after = check_folder(shared/'bears'), check_folder(res.path)
    t = res.table.sum(axis=1)
    assert t['found'] == t['downloaded'] == 168 and t['- a web page, not an image'] == 5
    assert t['- a text, not an image'] == 1
    assert t['kept'] == len(after.photos) == len(before.photos) - t['- duplicates'] and not after.left_out
    assert {class_of(o) for o in after.photos} == {'black', 'grizzly', 'teddy'}


def test_all_that_was_moved_comes_back(shared, tmp_path):
    "`verify --fix`, ten decisions, apply, undo all: byte for byte"
    path = shutil.copytree(shared/'bears', tmp_path/'bears')
    state = lambda: {o.relative_to(path).as_posix(): o.is_file() and (o.read_bytes(), o.stat().st_mtime_ns)
                     for o in path.rglob('*')}
    before, d = state(), Decisions(path)
    misnamed = [path/r[0].file for r in verify(path).rows if r[1] == 'wrong extension'][:3]
    photos = misnamed + [o for o in find_photos(path) if o not in misnamed][:60:9]
    whats = [DELETE, 'teddy', KEEP, 'polar bear', 'black', 'grizzly', DELETE, KEEP, 'teddy', 'black']
    d.decide_all(dict(zip(photos, whats)))
    assert len(verify(path, fix=True).done) == 43 and len(d.pending) == 10 and d.messages == []
    assert not d.apply().problems and len(d.table) == 53 and state().keys() != before.keys()
    assert not undo(path, all=True).problems and len(d.pending) == 10
    d.drop()
    assert state() == before


def photos_in(path): return {o.relative_to(path).as_posix(): o.stat().st_size for o in find_photos(path)}


@pytest.fixture(scope='module')
def own(shared, tmp_path_factory): return shutil.copytree(shared/'bears_small', tmp_path_factory.mktemp('own')/'bears')


@pytest.mark.parametrize('lesson', sorted((top/'nbs').glob('0[0-8]*.ipynb')), ids=lambda o: o.stem)
def test_a_lesson_on_photos_of_ones_own(lesson, own, child, tmp_path):
    "Each runs unchanged, its last cell says whether its figures are what it teaches, and no photo is lost"
    before = photos_in(own)
    file = shutil.copy(lesson, tmp_path)
    res = child(run_notebook, file, cwd=tmp_path, env=os.environ | {'BEARCLF_DATA': str(own)}).finish()
    assert res.returncode == 0, res.stderr[-5000:]
    assert photos_in(own) == before and len(before) == 414
