"Nobody's model is replaced, a pair of files belongs together whatever happens, and nothing is unpickled without a word"
import json, pickle, pickletools, shutil, sys, zipfile
from contextlib import nullcontext
from hashlib import sha256
from types import SimpleNamespace

import pytest

from bearclf.cli import main
from bearclf.core import cache_kinds, error_text
from bearclf.photo import forget
from bearclf.collect.collect import collect
from bearclf.folder.verify import verify
from bearclf.clean.issues import find_issues
from bearclf.practice.drawn import draw_bears, drawn_path
from bearclf.practice.web import practice_web
from bearclf.ship import export, predict
from bearclf.ship.export import export_classifier
from bearclf.ship.predict import load_classifier, model_facts
from bearclf.train.data import photo_dls
from bearclf.train.features import precomputed_learner
from bearclf.train.interpret import interpret, predictions_table, wilson_interval
from bearclf.train.learner import photo_learner, trained_learner
from helpers import can_fork, killed_at


@pytest.fixture(scope='module')
def bears(tmp_path_factory):
    path = tmp_path_factory.mktemp('drawn')/'bears'
    draw_bears(path, 12, 64)
    return path


@pytest.fixture(scope='module')
def learn(bears): return photo_learner(photo_dls(bears, 32, num_workers=0), 'squeezenet1_0', False)


@pytest.fixture
def written(learn, monkeypatch):
    "`written(dest, n)` exports the model number `n`, whose number stands in its facts and in the file"
    def f(dest, n):
        learn.number = n
        facts = dict(classes=list(learn.dls.vocab), error_rate=.5, number=n)
        graph = f'graph {n}'.encode()
        monkeypatch.setattr(export, 'model_info', lambda *_: facts)
        monkeypatch.setattr(export, '_portable', lambda *_: (graph, dict(sha256=sha256(graph).hexdigest())))
        monkeypatch.setattr(export, '_knowing', nullcontext)
        return export_classifier(learn, dest)
    return f


def number(pkl):
    "The number in the file, which has to be the one in its facts"
    pkl = predict.model_file(pkl)
    n, facts = predict._load_learner(pkl).number, model_facts(pkl)
    graph = pkl.with_suffix('.onnx').read_bytes()
    assert graph == b'graph %d' % n and facts['portable']['sha256'] == sha256(graph).hexdigest()
    assert facts['number'] == n
    return n


def names(path): return sorted(o.name for o in path.iterdir() if not o.name.startswith('.'))
def state(path): return {o: o.read_bytes() if o.is_file() else None for o in path.rglob('*')}


ONE = ['export.json', 'export.onnx', 'export.pkl']
TWO = ['export-before.json', 'export-before.onnx', 'export-before.pkl', *ONE]

# --- what stands there

def test_a_former_model_is_kept_beside_and_that_is_said(written, tmp_path, capsys):
    written(tmp_path, 0)
    assert names(tmp_path) == ONE and capsys.readouterr().out == ''
    for n in 1, 2, 3:
        pkl = written(tmp_path, n)
        assert capsys.readouterr().out == 'The model that was there is kept as export-before.pkl.\n'
        assert names(tmp_path) == TWO and number(pkl) == n and number(tmp_path/'export-before.pkl') == n-1
    assert len(list(tmp_path.iterdir())) == 6, 'nothing half written is left'


def fastai_model(p): (p/'export.json').unlink()
def no_model(p): (p/'export.pkl').write_text('my thesis')
def other_pkl(p): (p/'export.pkl').write_bytes((p/'export.pkl').read_bytes() + b'\0')
def other_json(p): (p/'export.json').write_text((p/'export.json').read_text().replace('0.5', '0.1'))
def notes(p): (p/'export.json').write_text('my notes')
def a_list(p): (p/'export.json').write_text('[1, 2]')
def a_folder(p): (p/'export.json').unlink(); (p/'export.json').mkdir()
def link(p): (p/'export.pkl').unlink(); (p/'export.pkl').symlink_to('nowhere')
def before(p): (p/'export-before.pkl').write_text('as it was before I touched it')
def before_json(p): (p/'export-before.json').write_text('{}')
def other_graph(p): (p/'export.onnx').write_bytes(b'of another model')

@pytest.mark.parametrize('change', [fastai_model, no_model, other_pkl, other_json, notes, a_list, a_folder, link,
                                    before, before_json, other_graph])
def test_what_bearclf_did_not_write_is_never_touched(written, tmp_path, change, bears, monkeypatch, capsys):
    written(tmp_path, 0)
    change(tmp_path)
    there = state(tmp_path)
    said = error_text(written, tmp_path, 1)
    assert 'was not written by bearclf, or was changed since, so it stays. Name another folder' in said
    monkeypatch.setattr('bearclf.train.learner.train_photos', lambda *_, **__: pytest.fail('it was trained'))
    assert main(['train', str(bears), '--full', '--no-pretrained', '--out', str(tmp_path)]) == 2
    assert capsys.readouterr() == ('', f'bearclf: {said}\n') and state(tmp_path) == there


def test_an_error_rate_has_its_numbers_beside_it(learn):
    "As many are wrong as a look at each photo finds, and no rate is made of no photos"
    facts, t = export.model_info(learn), predictions_table(interpret(learn))
    wrong, n = sum(t.actual != t.predicted), len(learn.dls.valid_ds)
    assert (facts['n_wrong'], facts['n_valid'], facts['error_rate']) == (wrong, n, round(wrong/n, 4)) and n < 12
    assert facts['interval'] == [round(o, 4) for o in wilson_interval(wrong, n)]
    assert json.loads(json.dumps(facts)) == facts
    nothing = SimpleNamespace(dls=SimpleNamespace(valid_ds=[], vocab=['a', 'b']))
    assert export._judged(*export._on_valid(nothing)) == dict(error_rate=None, n_wrong=0, n_valid=0, interval=None)


def test_a_file_is_no_place_for_a_model(written, tmp_path, bears, capsys):
    (tmp_path/'model').write_text('mine')
    said = f'{tmp_path/"model"} is a file. Name a folder to put the model into.'
    assert error_text(written, tmp_path/'model', 1) == said
    assert main(['train', str(bears), '--no-pretrained', '--out', str(tmp_path/'model')]) == 2
    assert capsys.readouterr() == ('', f'bearclf: {said}\n') and (tmp_path/'model').read_text() == 'mine'


def test_home_is_where_the_model_is_looked_for(written, tmp_path, monkeypatch):
    for o in 'HOME', 'USERPROFILE': monkeypatch.setenv(o, str(tmp_path))
    written('~/model', 4)
    assert number('~/model') == 4 and names(tmp_path/'model') == ONE


def test_facts_of_another_model_are_not_told(written, tmp_path):
    for n in 0, 1: written(tmp_path/str(n), n)
    shutil.copy(tmp_path/'1/export.pkl', tmp_path/'0/export.pkl')
    assert model_facts(tmp_path/'0') == {} and load_classifier(tmp_path/'0', trust=True).info == {}


@can_fork
@pytest.mark.parametrize('n', [0, 1, 2])
def test_killed_at_every_step_a_model_is_whole(written, tmp_path, n):
    "With `n` models written before; and the next export goes on from there"
    sha = {}
    for i in range(n): sha[predict.sha256_of(written(tmp_path/'start', i))] = i
    (tmp_path/'start').mkdir(exist_ok=True)
    def check(path, pkl):
        "Its facts are its own, and it is whole"
        facts, now = model_facts(path/pkl), predict.sha256_of(path/pkl)
        assert facts['sha256'] == now and facts['number'] == sha.get(now, n), (pkl, facts)
        assert zipfile.ZipFile(path/pkl).testzip() is None
        return facts['number']
    def graph_is_told(path):
        "A graph that is there is spoken of, whatever model the pickle beside it is"
        told = [json.loads(o.read_text())['portable']['sha256'] for o in path.glob('export*.json')]
        assert all(predict.sha256_of(o) in told for o in path.glob('export*.onnx'))
    at, died = 0, True
    while died:
        path = shutil.copytree(tmp_path/'start', tmp_path/f'{at}')
        died = killed_at(lambda: written(path, n), at)
        graph_is_told(path)
        there = [check(path, 'export.pkl')] if (path/'export.pkl').exists() else []
        assert there in ([n-1], [n]) if n else there in ([], [n])
        if (path/'export-before.pkl').exists() and there == [n]: assert check(path, 'export-before.pkl') == n-1
        alone = {'export-before.json', 'export-before.onnx'} if (path/'export.onnx').exists() else set()
        written(path, 100)
        assert number(path) == 100 and names(path) == (TWO if there else sorted({*ONE} | alone))
        if there: assert check(path, 'export-before.pkl') == there[0]
        at += 1
    assert at > 4 and there == [n]


def test_a_report_replaces_nothing(bears, tmp_path, capsys):
    for o in 'issues.html', 'issues.csv', 'decisions.csv':
        (tmp_path/o).mkdir()
        (tmp_path/o/o).write_text('mine')
        assert main(['clean', str(bears), '--report', str(tmp_path/o)]) == 2
        assert f'{o} is there already' in capsys.readouterr().err
        assert names(tmp_path/o) == [o] and (tmp_path/o/o).read_text() == 'mine'


# --- nothing is unpickled without a word

def said_of(file): return f'Opening {file}, which runs what is in it: open only models whose makers you trust.\n'


class Shouts:
    def __reduce__(self): return print, ('I ran',)


@pytest.fixture
def foreign(written, tmp_path, monkeypatch):
    "A model that was made on another machine"
    written(tmp_path/'model', 0)
    monkeypatch.setenv('BEARCLF_CACHE', str(tmp_path/'cache'))
    return tmp_path/'model'


def test_own_models_are_opened_quietly(written, tmp_path, capsys):
    load_classifier(written(tmp_path, 0), trust=True)
    shutil.copytree(tmp_path, tmp_path/'moved')
    load_classifier(tmp_path/'moved', trust=True)
    assert capsys.readouterr() == ('', '')


def test_a_word_before_a_foreign_model_is_opened(foreign, capsys, monkeypatch):
    load_classifier(foreign, trust=True)
    assert capsys.readouterr() == ('', said_of(foreign/'export.pkl'))
    (foreign/'export.pkl').write_bytes(pickle.dumps(Shouts(), protocol=2))
    monkeypatch.setattr(sys, 'stdout', sys.stderr)
    error_text(load_classifier, foreign, trust=True)
    assert capsys.readouterr().err.startswith(said_of(foreign/'export.pkl'))


def test_the_word_is_not_among_the_data(foreign, bears, capsys):
    photo = next(bears.glob('*/*.jpg'))
    assert main(['predict', str(foreign), str(photo), '--json', '--trust']) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)['file'] == str(photo) and said_of(foreign/'export.pkl') in err


@pytest.mark.parametrize('name', ['SERVER_SOFTWARE', 'VOILA_PREHEAT'])
def test_visitors_of_the_page_are_not_told(foreign, capsys, monkeypatch, name):
    "Voilà sets these, the second for a kernel that waits"
    monkeypatch.setenv(name, 'voila/0.5')
    load_classifier(foreign, trust=True)
    assert capsys.readouterr() == ('', '')


# --- the cache holds no pickles

def is_pickle(file):
    data = file.read_bytes()
    if zipfile.is_zipfile(file): return any(o.endswith('.pkl') for o in zipfile.ZipFile(file).namelist())
    try: last = list(pickletools.genops(data))[-1]
    except Exception: return data.startswith(b'\x80')
    return last[0].name == 'STOP'


def test_what_is_a_pickle_is_found(written, tmp_path):
    assert is_pickle(written(tmp_path, 0))
    for protocol in range(6):
        (tmp_path/'x').write_bytes(pickle.dumps({'a': [1., 'b']}, protocol=protocol))
        assert is_pickle(tmp_path/'x'), protocol
    (tmp_path/'x').write_bytes(b'\x80\x04\x95cut short')
    assert is_pickle(tmp_path/'x') and not is_pickle(tmp_path/'export.json')


def test_the_cache_holds_no_pickles(tmp_path, monkeypatch):
    "Whatever the library keeps there, but for the demo's model"
    monkeypatch.setenv('BEARCLF_CACHE', str(tmp_path/'cache'))
    forget()
    path = drawn_path(24, 400)
    verify(path)
    learn = precomputed_learner(path, 'efficientnet_lite0', start='imagenet')
    find_issues(learn, path)
    trained_learner(path, arch='squeezenet1_0', epochs=1, size=32, num_workers=0)
    export_classifier(learn, tmp_path/'model')
    with practice_web(n=8, size=64) as web:
        collect({'teddy': 'teddy bear'}, tmp_path/'collected', 4, allow_hosts=web.hosts, wait=.02, **web.reach)
    kinds = {o.name for o in cache_kinds()}
    assert kinds >= {'drawn', 'prints', 'photos', 'features', 'learners', 'own-models', 'search', 'fetched', 'locks'}
    assert len(list((tmp_path/'cache/learners').glob('*.safetensors'))) == 1
    assert [o for o in (tmp_path/'cache').rglob('*') if o.is_file() and is_pickle(o)] == []
