"The command, as a person types it"
import csv, json, os, re, shutil, subprocess, sys, sysconfig
from pathlib import Path

import pytest

from bearclf import __version__
from bearclf.cli import _model_dir, _model_of, main

from bearclf.practice.drawn import draw_bears
from bearclf.practice.web import practice_web

bearclf = Path(sysconfig.get_path('scripts'))/'bearclf'


def typed(*args, **kw):
    return subprocess.run([bearclf, *map(str, args)], capture_output=True, text=True, encoding='utf-8', **kw)


@pytest.fixture(scope='session')
def run(child):
    "The same in a process that has imported fastai already, which takes most of the time"
    return lambda *args, **kw: child(main, [*map(str, args)], **kw).finish()


def sentence(res, status=2):
    "The one sentence with which a command failed"
    assert res.returncode == status, res.stdout + res.stderr
    assert 'Traceback' not in res.stderr
    return res.stderr.strip().splitlines()[-1]


@pytest.fixture(scope='module')
def cyrillic(tmp_path_factory):
    "Class folders as students name them, with a model that was trained on them by the command"
    path = tmp_path_factory.mktemp('звери')/'мои звери'
    draw_bears(path, n=45, size=64, truncated=1, not_images=1)
    for old, new in dict(black='кот', grizzly='заяц', teddy='корова').items(): (path/old).rename(path/new)
    res = typed('train', path, '--no-pretrained', '--epochs', 1, '--size', 32, '--out', path.parent/'модель')
    assert res.returncode == 0, res.stderr
    return path, path.parent/'модель', res


def test_help_names_every_command():
    text = typed('--help').stdout
    assert all(o in text for o in ('draw', 'collect', 'verify', 'bundle', 'train', 'clean', 'evaluate', 'predict',
                                   'app'))
    assert '--no-pretrained' in typed('train', '--help').stdout


def test_python_m_bearclf():
    res = subprocess.run([sys.executable, '-m', 'bearclf', '--version'], capture_output=True, text=True)
    assert res.returncode == 0 and res.stdout == f'bearclf {__version__}\n', res.stderr


def test_draw(tmp_path):
    res = typed('draw', tmp_path/'bears', '--n', 12, '--size', 64, '--mislabelled', 2)
    assert res.returncode == 0 and len(list(tmp_path.glob('bears/*/*.jpg'))) == 12
    assert len((tmp_path/'bears/planted.csv').read_text().splitlines()) == 3
    assert 'nothing of yours is overwritten' in sentence(typed('draw', tmp_path/'bears'))


def test_train_reports_and_writes(cyrillic):
    path, model, res = cyrillic
    assert 'заяц' in res.stdout and '2 files left out' in res.stdout and 'not an image' in res.stdout
    assert 'damaged or cut short' in res.stdout
    facts = json.loads((model/'export.json').read_text(encoding='utf-8'))
    assert facts['classes'] == ['заяц', 'корова', 'кот'] and facts['n_photos'] == 44 and facts['size'] == [32, 32]
    assert facts['arch'] == 'resnet18' and 0 <= facts['error_rate'] <= 1 and facts['versions']['torch']


def test_predict_any_alphabet(cyrillic):
    path, model, _ = cyrillic
    photos = sorted(path.glob('кот/*.jpg'))[:2]
    res = typed('predict', model, *photos, '--json')
    rows = [json.loads(o) for o in res.stdout.splitlines()]
    assert res.returncode == 0 and [o['file'] for o in rows] == list(map(str, photos))
    for o in rows:
        assert set(o['probabilities']) == {'кот', 'заяц', 'корова'} and abs(sum(o['probabilities'].values()) - 1) < 1e-4
        assert o['probability'] == o['probabilities'][o['label']] == max(o['probabilities'].values())


def test_predict_goes_on_after_a_bad_file(run, demo_model, fresh_bears, tmp_path):
    (tmp_path/'page.jpg').write_text('<html>403</html>')
    res = run('predict', demo_model/'export.pkl', tmp_path/'page.jpg', fresh_bears['teddy'][0], '--json')
    bad, good = map(json.loads, res.stdout.splitlines())
    assert res.returncode == 1 and 'web page' in bad['error'] and good['label'] == 'teddy'


@pytest.mark.parametrize('words', ['m --json a', '--json m a b', 'm a --json b', 'm --json -- a'])
def test_predict_in_any_order_of_words(run, demo_model, fresh_bears, words):
    known = dict(m=demo_model, a=fresh_bears['teddy'][0], b=fresh_bears['black'][0])
    res = run('predict', *[known.get(o, o) for o in words.split()])
    assert res.returncode == 0, res.stderr
    rows = [json.loads(o) for o in res.stdout.splitlines()]
    assert [(o['file'], o['label']) for o in rows] == [
        (str(known[o]), dict(a='teddy', b='black')[o]) for o in words.split() if o in 'ab']


def test_predict_where_no_shell_has_looked(run, demo_model, fresh_bears, tmp_path):
    "Home and patterns, and a name that looks like a pattern"
    for name, label in {'a[1].jpg': 'teddy', 'b.jpg': 'black', 'c.png': 'black', 'a1.jpg': 'grizzly'}.items():
        (tmp_path/name).write_bytes(fresh_bears[label][0].read_bytes())
    (tmp_path/'d.jpg').mkdir()
    env = os.environ | dict(HOME=str(tmp_path), USERPROFILE=str(tmp_path))
    found = lambda *words: [(Path(o.split(': ')[0]).name, o.split(': ')[1].split()[0]) for o in run(
        'predict', demo_model, *words, cwd=tmp_path, env=env).stdout.splitlines()]
    jpgs = [('a1.jpg', 'grizzly'), ('a[1].jpg', 'teddy'), ('b.jpg', 'black')]
    assert found('*.jpg', '~/c.png') == jpgs + [('c.png', 'black')]
    assert found('~/*.jpg') == jpgs and found('a[1].jpg') == [('a[1].jpg', 'teddy')]


@pytest.mark.parametrize('what, said', [
    ('*.gif', '*.gif is a pattern that no file fits.'),
    ('https://a.example/x.jpg?w=1', 'https://a.example/x.jpg?w=1 is an address, not a file; download it first')])
def test_predict_says_what_is_no_file(run, demo_model, fresh_bears, what, said):
    for others, status in ([], 2), ([fresh_bears['teddy'][0]], 1):
        res = run('predict', demo_model, what, *others)
        assert res.returncode == status and res.stdout.startswith(said), res.stdout + res.stderr
        assert len(res.stdout.splitlines()) == 1 + len(others)


def test_the_recipe_for_drawn_bears(run, demo_model, fresh_folder):
    "The model that `make app` and the notebooks use, on 300 bears of another seed"
    res = run('evaluate', demo_model, fresh_folder, '--json')
    found = json.loads(res.stdout)
    assert found['n'] == 300 == sum(n for row in found['confusion'].values() for n in row.values())
    assert found['n_wrong'] == sum(n for a, row in found['confusion'].items() for p, n in row.items() if a != p)
    assert found['error_rate'] < 0.05


def test_two_models_on_the_same_photos(run, demo_model, fresh_folder, tmp_path):
    "One that knows bears, and one that has seen few of them for a moment"
    res = run('train', fresh_folder, '--no-pretrained', '--epochs', 1, '--size', 32, '--out', tmp_path/'poor')
    facts = json.loads((tmp_path/'poor/export.json').read_text())
    assert facts['n_valid'] == 60 and f'{facts["n_wrong"]} of 60 photos that were kept aside are wrong ' in res.stdout
    res = run('evaluate', demo_model, fresh_folder, '--against', tmp_path/'poor')
    assert res.stdout.startswith(f'{demo_model}:\n') and f'\n{tmp_path/"poor"}:\n' in res.stdout
    assert res.stdout.count(" of 300 photos are wrong by the folder's labels (") == 2
    assert 'more than chance' in res.stdout.splitlines()[-1]
    found = json.loads(run('evaluate', demo_model, fresh_folder, '--against', tmp_path/'poor', '--json').stdout)
    a, b, both = found, found['against'], found['compared']
    assert a['interval'][0] <= a['error_rate'] <= a['interval'][1] < b['interval'][0] < b['error_rate']
    assert (both['n'], both['wrong_a'], both['wrong_b']) == (300, a['n_wrong'], b['n_wrong']) and both['p'] < 1e-6
    assert both['only_b'] - both['only_a'] == b['n_wrong'] - a['n_wrong']


def test_app_says_of_how_many_its_model_was_wrong(cyrillic, tmp_path, monkeypatch, capsys):
    path, model, _ = cyrillic
    monkeypatch.chdir(tmp_path)
    shutil.copytree(model, _model_dir(path))
    facts = json.loads((model/'export.json').read_text(encoding='utf-8'))
    assert _model_of(path, None) == _model_dir(path)
    assert f'44 photos, {facts["n_wrong"]} of {facts["n_valid"]} photos that were kept aside are wrong by ' in (
        said := capsys.readouterr().out) and '95% interval' in said


def test_evaluate_names_classes_it_does_not_know(run, cyrillic, fresh_folder):
    assert "does not know 'black'" in sentence(run('evaluate', cyrillic[1], fresh_folder))


@pytest.mark.parametrize('args, words', [
    (['train', 'no_such_folder'], 'There is no folder'),
    (['train', '.', '--arch', 'resent18'], 'Did you mean resnet18'),
    (['train', '.', '--arch', 'vit_b_16'], 'no network that can be cut'),
    (['train', '.', '--arch', 'resnet18'], 'no photos'),
    (['evaluate', 'no_such_model', '.'], 'There is no model'),
    (['predict', 'no_such_model', 'x.jpg'], 'There is no model'),
    (['app', '--model', 'no_such_model'], 'There is no model'),
    (['train', '.', '--epochs', '0'], '--epochs 0 is too small'),
])
def test_mistakes_get_a_sentence(run, args, words, tmp_path):
    assert words in sentence(run(*args, cwd=tmp_path))


def test_train_fetches_last(run, tmp_path, monkeypatch):
    "One class, a place for the model where one cannot write: said before anything is asked for weights"
    from bearclf.train import machine
    import bearclf.cli as cli
    asked = []
    monkeypatch.setattr(machine, 'reachable', lambda *_: asked.append(1))
    draw_bears(tmp_path/'bears', n=12, size=64)
    for o in 'black', 'grizzly': shutil.rmtree(tmp_path/'bears'/o)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('TORCH_HOME', str(tmp_path/'torch'))
    for words in [], ['--full'], ['--arch', 'resnet34']: assert main(['train', 'bears', *words]) == 2
    def full(dir): raise OSError(30, 'Read-only file system')
    monkeypatch.setattr(cli, 'TemporaryFile', full)
    assert main(['train', 'bears', '--out', 'model']) == 2
    assert not asked


def test_doctor(run, tmp_path):
    res = run('doctor', env=os.environ | {'HOME': str(tmp_path/'jane.doe')})
    assert res.returncode == 0 and all(o in res.stdout for o in ('torch 2', 'fastai 2', 'memory free', 'GB free at'))
    assert 'jane' not in res.stdout and ('All is well' in res.stdout or 'What is not well' in res.stdout)


def test_a_folder_that_cannot_be_written(run, tmp_path):
    draw_bears(tmp_path/'bears', n=12, size=64)
    (tmp_path/'file').write_text('in the way')
    text = sentence(run('train', tmp_path/'bears', '--no-pretrained', '--out', tmp_path/'file'/'model'))
    assert 'cannot be read or written' in text


def test_no_weights_and_no_network(run, tmp_path):
    draw_bears(tmp_path/'bears', n=12, size=64)
    # an address on this machine where nobody answers, in place of the network
    env = os.environ | {'TORCH_HOME': str(tmp_path/'torch'), 'https_proxy': 'http://127.0.0.1:9',
                        'HTTPS_PROXY': 'http://127.0.0.1:9'}
    text = sentence(run('train', tmp_path/'bears', '--arch', 'resnet18', env=env))
    assert 'resnet18-f37072fd.pth' in text and 'TORCH_HOME' in text and '--no-pretrained' in text
    res = run('train', tmp_path/'bears', '--out', tmp_path/'model', env=env)
    assert res.returncode == 0 and 'efficientnet_lite0, whose weights came with pip' in res.stdout, res.stderr
    assert json.loads((tmp_path/'model/export.json').read_text())['arch'] == 'efficientnet_lite0'


@pytest.fixture(scope='module')
def small(tmp_path_factory):
    "A folder with eighteen bears, and an environment without a GPU that has a network's weights, here random ones"
    import torch
    from bearclf.train.bodies import find_arch, weights_file
    tmp = tmp_path_factory.mktemp('at hand')
    draw_bears(tmp/'bears', n=18, size=64)
    (folder := tmp/'torch/hub/checkpoints').mkdir(parents=True)
    torch.manual_seed(1)
    torch.save(find_arch('squeezenet1_0')().state_dict(), folder/weights_file('squeezenet1_0').name)
    return tmp, os.environ | dict(TORCH_HOME=str(tmp/'torch'), CUDA_VISIBLE_DEVICES='')


SQUEEZE = '--arch', 'squeezenet1_0'
TRAIN = 'train', 'bears', *SQUEEZE, '--size', '64', '--epochs', '1', '--out', 'model'

@pytest.fixture
def at_hand(run, small): return lambda *args: run(*TRAIN, *args, cwd=small[0], env=small[1])


@pytest.mark.parametrize('words, head_only, told',
                         [([], True, True), (['--precompute'], True, False), (['--full'], False, False)], ids=str)
def test_what_is_trained_without_a_gpu(at_hand, words, head_only, told):
    res = at_hand(*words)
    assert res.returncode == 0 and ' photos that were kept aside are wrong by the folder' in res.stdout, res.stderr
    assert ('There is no GPU here' in res.stdout and 'as in the book: --full' in res.stdout) == told
    assert ('to train the head' in res.stdout) == head_only
    assert ('for each photo in an epoch' in res.stdout) != head_only
    assert 'CPUMixedPrecision' not in res.stdout, 'the command knows by itself'


def without_page(args):
    "The command, but `app` ends where the page would begin"
    from bearclf.ship import page
    page.serve = lambda *_, **__: 0
    return main(args)

def check_log(child, n, args, **kw):
    "A command writes at most `n` lines into a file, with no bar among them"
    c = child(without_page, [*args], **kw)
    assert c.finish().returncode == 0, c.err.read_text(encoding='utf-8')
    said = (c.out.read_bytes() + c.err.read_bytes()).replace(os.linesep.encode(), b'\n').decode()
    assert not {*'\r█|'} & {*said} and 'Warning' not in said, said
    lines = [o for o in said.splitlines() if not re.search(r': [\d,]+( of [\d,]+)? \.\.\.$', o)]  # slow machines
    assert len(lines) <= n, said
    return said

def test_no_bar_in_a_file(child, small):
    def log(n, *args): return check_log(child, n, args, cwd=small[0], env=small[1])
    assert 'train_loss' in log(16, *TRAIN, '--full'), 'the line of an epoch stays'
    log(16, *TRAIN)
    log(16, 'app', '--data', 'bears', *SQUEEZE)
    log(10, 'evaluate', 'model', 'bears')
    log(16, 'clean', 'bears', '--report', *SQUEEZE)
    log(2, 'draw', 'more', '--n', '12', '--size', '64')
    log(20, 'cache')

@pytest.mark.exhaustive
def test_the_first_start_in_a_file(child, tmp_path):
    log = check_log(child, 30, ['app', '--demo'], cwd=tmp_path, env=os.environ | {'BEARCLF_CACHE': str(tmp_path)})
    assert 'This happens once' in log and 'Drawing bears ...' in log

# a clock that goes on by a tenth of a second with each bear
CLOCK = '''
import time
from fastprogress import fastprogress
now = [1000.]
time.time = time.monotonic = lambda: now[0]
def count(bar):
    for o in bar: now[0] += .1; yield o
from bearclf.core import lines_for_bars, progress
from tqdm import tqdm
lines_for_bars()
for _ in count(progress(range({n}), 'Counting bears')): pass
for _ in progress(range(25), 'Done at once'): pass
for _ in count(tqdm(range(25), 'Of others', disable=False)): pass
with tqdm(total=2**24, unit='B', unit_scale=True, unit_divisor=1024) as bar:
    for _ in range(64): now[0] += .1; bar.update(2**18)
epochs = fastprogress.master_bar(range(2))
for _ in epochs:
    for _ in count(fastprogress.progress_bar(range(60), parent=epochs)): pass
    epochs.write(['loss', 'error'], table=True)
'''

@pytest.mark.parametrize('n, most', [(120, 8), (36_000, 99), (10, 6)])
def test_what_takes_long_is_said_every_few_seconds(n, most):
    "In an hour not hundreds of times; what is done at once is not said; no bar, and no sign that moves a cursor"
    res = subprocess.run([sys.executable, '-c', CLOCK.replace('{n}', str(n))], capture_output=True)
    lines = res.stderr.decode().splitlines()
    assert res.returncode == 0 and len(lines) <= most and b'\r' not in res.stderr + res.stdout, res.stderr
    assert ('Counting bears ...' in lines) == (n > 20) and 'Of others ...' in lines and 'Done' not in str(lines)
    if n == 120: assert f'Counting bears: 50 of {n} ...' in lines and f'Counting bears: 100 of {n} ...' in lines, lines
    assert [o for o in lines if re.fullmatch(r'So far: \d+\.\d+M of 16.0M ...', o)], lines
    assert [o for o in lines if re.fullmatch(r'Epoch [12]/2: \d+ of 60 ...', o)], lines
    assert res.stdout.decode().split() == ['loss', 'error', 'loss', 'error']


def test_a_log_grows_while_a_command_works(tmp_path):
    "As `tail -f` shows it: a line is there as soon as it is whole"
    code = ('from bearclf import cli; import os, sys\n'
            'def work(*_): print("first"); print(os.path.getsize("log"), file=sys.stderr)\n'
            'cli._call = work; cli.main(["evaluate"])')
    with open(tmp_path/'log', 'w') as log:
        res = subprocess.run([sys.executable, '-c', code], stdout=log, stderr=subprocess.PIPE, cwd=tmp_path)
    assert int(res.stderr) >= 6, res.stderr


def test_words_that_do_not_go_together(at_hand):
    assert '--precompute and --full are opposites' in sentence(at_hand('--precompute', '--full'))
    assert '--no-pretrained' in sentence(at_hand('--precompute', '--no-pretrained'))


def test_an_arch_that_does_not_exist(run, tmp_path):
    draw_bears(tmp_path/'bears', n=12, size=64)
    assert 'Did you mean resnet18' in sentence(run('train', tmp_path/'bears', '--arch', 'resent18'))


def test_unknown_command():
    res = typed('trian', 'x')
    assert res.returncode == 2 and 'Did you mean train?' in res.stderr


@pytest.fixture(scope='module')
def web():
    with practice_web(n=20, size=64, faults=dict(dead=2, truncated=1, same=2), terms={'кот': 'teddy'}) as web: yield web


def collect(run, web, dest, *args, **kw):
    here = ['--proxy', web.reach['proxy'], '--certificates', web.reach['verify'], '--allow-host', '127.0.0.1',
            '--wait', .1]
    return run('collect', dest, *args, *here, **kw)


def test_collect_then_bundle_then_collect_the_bundle(run, web, tmp_path):
    env = os.environ | {'BEARCLF_CACHE': str(tmp_path/'cache')}
    res = collect(run, web, tmp_path/'звери', '--class', 'кот', '--class', 'bear=black bear', '--n', 10, env=env)
    assert res.returncode == 0 and 'кот' in res.stdout and 'not there (404)' in res.stdout, res.stderr
    found = sorted(o.name for o in tmp_path.glob('звери/*/*.jpg'))
    assert len(found) == 20 and (tmp_path/'звери/manifest.csv').exists()
    res = run('bundle', tmp_path/'звери', tmp_path/'звери.zip')
    assert res.returncode == 0 and '20 photos' in res.stdout, res.stderr
    res = collect(run, web, tmp_path/'ученик', '--bundle', tmp_path/'звери.zip', env=env)
    assert res.returncode == 0 and sorted(o.name for o in tmp_path.glob('ученик/*/*.jpg')) == found, res.stderr


def test_collect_says_what_is_missing(run, tmp_path):
    assert '--class teddy="teddy bear"' in sentence(run('collect', tmp_path/'a'))
    assert 'cannot be the name of a folder' in sentence(run('collect', tmp_path/'a', '--class', '../b=bear'))
    assert 'There is no engine' in sentence(run('collect', tmp_path/'a', '--class', 'bear', '--engine', 'altavista'))
    assert 'no bundle' in sentence(run('collect', tmp_path/'a', '--bundle', tmp_path/'none.zip'))
    assert not (tmp_path/'a').exists()


def test_verify_fix_and_undo(run, tmp_path):
    draw_bears(tmp_path/'bears', n=12, size=64, truncated=2, wrong_extension=1, duplicated=1)
    files = lambda: {o.relative_to(tmp_path).as_posix(): o.read_bytes() for o in tmp_path.rglob('*') if o.is_file()}
    before = files()
    assert 'damaged or cut short' in run('verify', tmp_path/'bears').stdout and files() == before
    assert run('verify', tmp_path/'bears', '--fix').returncode == 0 and files() != before
    assert 'photos were put back in bears' in run('verify', tmp_path/'bears', '--undo').stdout and files() == before
    assert 'no folder' in sentence(run('verify', tmp_path/'beers'))


def test_history_says_what_was_done_and_takes_it_back(run, tmp_path):
    path = tmp_path/'bears'
    draw_bears(path, n=12, size=64, truncated=2, wrong_extension=1, duplicated=1)
    before = files(path)
    assert 'Nothing was done' in run('history', path).stdout
    run('verify', path, '--fix')
    photo = next(path.glob('teddy/*.jpg')).relative_to(path).as_posix()
    (tmp_path/'d.csv').write_text(f'file,decision\n{photo},black\n')
    run('clean', path, '--apply', tmp_path/'d.csv')
    said = run('history', path).stdout.splitlines()
    assert 'verify' in said[1] and 'apply' in said[2] and '1 moved' in said[2]
    assert '1 photo was put back' in run('history', path, '--undo').stdout
    assert '4 photos were put back' in run('history', path, '--undo').stdout and files(path) == before
    assert '--all goes with --undo' in sentence(run('history', path, '--all'))


def files(path):
    return {o.relative_to(path).as_posix(): (o.read_bytes(), o.stat().st_mtime_ns) for o in path.rglob('*')
            if o.is_file()}


def test_clean_apply_and_undo(run, tmp_path):
    draw_bears(tmp_path/'bears', n=12, size=64)
    before = files(tmp_path)
    table = tmp_path.parent/'решения.csv'
    table.write_text('file,decision,suggestion\nblack/00000000.jpg,кот,\nteddy/00000002.jpg,<Delete>,\n'
                     'black/00000003.jpg,,teddy\n', encoding='utf-8')
    said = sentence(run('clean', tmp_path/'bears', '--apply', table))
    assert "row 2: there is no class 'кот'" in said and '--new-class' in said and files(tmp_path) == before
    res = run('clean', tmp_path/'bears', '--apply', table, '--new-class')
    assert res.returncode == 0 and '2 photos were moved' in res.stdout, res.stderr
    assert (tmp_path/'bears/кот/00000000.jpg').exists()
    assert '2 photos were put back' in run('clean', tmp_path/'bears', '--undo').stdout and files(tmp_path) == before
    assert '0 photos' in run('clean', tmp_path/'bears', '--undo').stdout and files(tmp_path) == before
    table.write_text('file,decision\nblack/9.jpg,кот\nteddy/00000002.jpg,<Delete>\n', encoding='utf-8')
    res = run('clean', tmp_path/'bears', '--apply', table)
    assert res.returncode == 1 and 'black/9.jpg is not there' in res.stdout and '1 photo was moved' in res.stdout
    for words in ([], ['--undo', '--apply', table], ['--report', '--undo']):
        assert 'one of them' in sentence(run('clean', tmp_path/'bears', *words))
    assert 'columns file and decision' in sentence(run('clean', tmp_path/'bears', '--apply',
                                                       tmp_path/'bears/black/00000003.jpg'))
    assert 'no folder' in sentence(run('clean', tmp_path/'beers', '--undo'))


def test_clean_report(tmp_path, monkeypatch, capsys):
    "Copies are found without a network that has seen photos; what is kept is not asked about again"
    from bearclf.train import features as precompute
    from bearclf.cli import main
    from bearclf.clean.decisions import KEEP, Decisions
    monkeypatch.setattr(precompute, 'precomputed_learner', lambda path, arch,
                        f=precompute.precomputed_learner: f(path, arch, 64, pretrained=False, num_workers=0))
    monkeypatch.chdir(tmp_path)
    planted = draw_bears(tmp_path/'звери', n=36, size=96, duplicated=4, seed=3)
    (tmp_path/'звери/black').rename(tmp_path/'звери/чёрный, бурый')
    before = files(tmp_path/'звери')
    assert main(['clean', 'звери', '--report']) == 0
    said, out = capsys.readouterr().out, tmp_path/'звери-report'
    assert 'nothing was moved' in said and 'bearclf clean "звери" --apply' in said and files(tmp_path/'звери') == before
    assert 'data:image/jpeg' in (out/'issues.html').read_text(encoding='utf-8')
    issues = list(csv.DictReader((out/'issues.csv').open(encoding='utf-8-sig')))
    table = list(csv.DictReader((out/'decisions.csv').open(encoding='utf-8-sig')))
    assert len(issues) == 40 and 0 < len(table) < 40
    assert list(table[0]) == ['file', 'decision', 'suggestion', 'score', 'reasons']
    copies = [o for o in table if 'the same photo as' in o['reasons']]
    assert len(copies) >= len(planted) and any(o['decision'] == '<Delete>' for o in copies)
    assert all(o['decision'] in ('', o['suggestion']) for o in table)
    for o in table:
        score = float(o['score'])
        sure = bool(o['suggestion'] and score > .75)
        assert bool(o['decision']) == sure or abs(score - .75) < .001, 'only what is sure is filled in'
    assert {o['file'] for o in issues} == {o for o in before if o.endswith('.jpg')}
    assert any('чёрный, бурый/' in o['file'] for o in issues)
    assert main(['clean', 'звери', '--report']) == 2 and 'is there already' in capsys.readouterr().err
    assert main(['clean', 'звери', '--apply', str(out/'decisions.csv')]) == 0
    gone = [o['file'] for o in table if o['decision'] == '<Delete>']
    assert gone and not any((tmp_path/'звери'/o).exists() for o in gone)
    assert main(['clean', 'звери', '--undo']) == 0 and files(tmp_path/'звери') == before
    d = Decisions(tmp_path/'звери')
    d.decide(gone[0], KEEP); d.apply()
    assert main(['clean', 'звери', '--report', 'again']) == 0
    again = csv.DictReader((tmp_path/'again/decisions.csv').open(encoding='utf-8-sig'))
    assert gone[0] not in [o['file'] for o in again]


def test_clean_report_of_real_photos(run, shared, tmp_path):
    "With a network that has seen photos, what lies in a wrong folder stands at the top"
    for kind in 'black', 'grizzly', 'teddy':
        (tmp_path/'bears'/kind).mkdir(parents=True)
        for o in sorted((shared/'bears_small'/kind).iterdir())[:25]:
            (tmp_path/'bears'/kind/o.name).write_bytes(o.read_bytes())
    wrong = [o.name for o in sorted((tmp_path/'bears/teddy').iterdir())[:3]]
    for o in wrong: (tmp_path/'bears/teddy'/o).rename(tmp_path/'bears/black'/f'teddy_{o}')
    env = os.environ | {'TORCH_HOME': str(shared/'torch'), 'BEARCLF_CACHE': str(tmp_path/'cache')}
    res = run('clean', tmp_path/'bears', '--report', tmp_path/'out', '--arch', 'squeezenet1_0', env=env)
    assert res.returncode == 0, res.stderr
    rows = list(csv.DictReader((tmp_path/'out/decisions.csv').open(encoding='utf-8-sig')))
    found = {o['file']: o['suggestion'] for o in rows[:12]}
    assert [found.get(f'black/teddy_{o}') for o in wrong] == ['teddy']*3


def test_lab_opens_a_copy_of_lessons_that_came_by_pip(tmp_path, monkeypatch):
    "and what is changed in it stays; in a clone it opens the lessons themselves"
    from bearclf.ship.page import app_notebook
    opened, clone, pip = [], app_notebook(), tmp_path/'bearclf/nbs/page.ipynb'
    pip.parent.mkdir(parents=True)
    for o in pip.parent.parent/'__init__.py', pip.parent/'00_start.ipynb': o.write_text('as it came')
    monkeypatch.setattr('subprocess.call', lambda words: opened.append(words[-1]) or 0)
    for place in clone, pip, pip:
        monkeypatch.setattr('bearclf.ship.page.app_notebook', lambda: place)
        assert main(['lab', '--folder', str(tmp_path/'mine')]) == 0
        if place == pip: opened[-1].write_text(opened[-1].read_text() + '!')
    assert opened == [clone.parent/'00_start.ipynb', *[tmp_path/'mine/00_start.ipynb']*2]
    assert opened[-1].read_text() == 'as it came!!' and (pip.parent/'00_start.ipynb').read_text() == 'as it came'
