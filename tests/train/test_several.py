"Processes that train one model, on drawn bears of 32 pixels: as a launcher's environment makes them, and by `torchrun`"
import json, os, signal, socket, subprocess, sys, time

import psutil, pytest, torch
from fastcore.basics import range_of

from bearclf.cli import main
from bearclf.core import BearclfError
from bearclf.practice.drawn import draw_bears
from bearclf.train import several
from bearclf.train.several import Share, beside_others
from fastai.data.core import TfmdDL

exhaustive = pytest.mark.exhaustive
SMALL = '--full', '--no-pretrained', '--arch', 'test_resnet', '--size', '32', '--num-workers', '0'
SENTENCE = 'The training by 2 processes has ended before its time'


@pytest.mark.parametrize('n', [41, 160, 163])
@pytest.mark.parametrize('processes', [2, 3])
def test_each_photo_goes_to_one_process(n, processes):
    for training in True, False:
        shares = [Share(TfmdDL(range_of(range(n)), bs=12, shuffle=training, drop_last=training), rank=o,
                        world_size=processes) for o in range(processes)]
        order = list(shares[0].dl.get_idxs())
        for o in shares: o._broadcast = lambda *_: order
        batches = [[b.tolist() for b in o] for o in shares]
        seen = [i for bs in batches for b in bs for i in b]
        assert [len(o) for o in shares] == [len(bs) for bs in batches]
        assert len(set(seen)) == len(seen) == (n//12*12 if training else n)
        if training:
            for i, whole in enumerate(zip(*batches)): assert {j for b in whole for j in b} == {*order[i*12:i*12 + 12]}


@pytest.fixture
def one_of_two(monkeypatch):
    before = signal.getsignal(signal.SIGTERM)
    for k, v in dict(RANK='0', LOCAL_RANK='0', WORLD_SIZE='2').items(): monkeypatch.setenv(k, v)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize('rank', '01')
def test_without_accelerate_one_says_so(one_of_two, monkeypatch, tmp_path, capfd, rank):
    monkeypatch.setenv('LOCAL_RANK', rank)
    monkeypatch.setattr(several, 'fad', None)
    draw_bears(tmp_path/'bears', 12, 64)
    words = ['train', str(tmp_path/'bears'), *SMALL, '--out', str(tmp_path/'model')]
    if rank == '0': assert main(words) == 2
    else: pytest.raises(SystemExit, main, words)
    assert capfd.readouterr().err.count('pip install accelerate') == (rank == '0')


@pytest.mark.parametrize('error, told', [
    (RuntimeError('[/x/gloo/transport/tcp/pair.cc:545] Read error: Connection reset by peer.'), SENTENCE),
    (torch.distributed.DistBackendError('NCCL'), SENTENCE), (KeyboardInterrupt(), SENTENCE),
    (BearclfError('no photos'), 'no photos'), (RuntimeError('shapes differ'), ''), (OSError('full'), '')], ids=repr)
def test_what_comes_of_another_is_a_sentence_and_what_is_its_own_is_not(one_of_two, error, told):
    with pytest.raises(Exception) as e:
        with beside_others(): raise error
    if told: assert e.type is BearclfError and str(e.value).startswith(told)
    else: assert e.value is error


def free_port():
    with socket.socket() as s:
        s.bind(('localhost', 0))
        return str(s.getsockname()[1])


@pytest.fixture
def together(child):
    "`together(n, f, *args)`: what `n` processes have said that do it together"
    pytest.importorskip('accelerate')
    def together(n, f, *args):
        port, env = free_port(), os.environ | {'OMP_NUM_THREADS': '1'}
        envs = [env | dict(RANK=str(o), LOCAL_RANK=str(o), WORLD_SIZE=str(n), MASTER_ADDR='localhost', MASTER_PORT=port)
                for o in range(n)] if n > 1 else [env]
        ended = [c.finish() for c in [child(f, *args, env=o) for o in envs]]
        assert not any(o.returncode for o in ended), [o.stderr[-2000:] for o in ended]
        return ended
    return together


@pytest.fixture(scope='module')
def bears(tmp_path_factory):
    path = tmp_path_factory.mktemp('bears')/'drawn'
    draw_bears(path, 205, 64, seed=3)
    return path


def fit(path, out):
    "With three seeds; writes which photos were seen, the last line of the table, and the sum of the weights"
    from fastai.torch_core import rank_distrib
    from bearclf.train.learner import train_photos
    facts, seen, get = [], [], Share.get_idxs
    def noted(self):
        idxs = get(self)
        seen.append([str(self.dataset.items[i]) for i in idxs])
        return idxs
    Share.get_idxs = noted
    with beside_others():
        for seed in range(3):
            seen.clear()
            learn = train_photos(path, 'test_resnet', 10, 32, pretrained=False, seed=seed, bs=16, num_workers=0)
            error, world = learn.recorder.values[-1][-1], os.environ.pop('WORLD_SIZE', '')
            own = learn.validate()[-1]
            if world: os.environ['WORLD_SIZE'] = world
            facts.append(dict(train=seen[::2], valid=seen[1::2], error=error, own=own,
                              n=[len(learn.dls.train_ds), len(learn.dls.valid_ds)],
                              weights=[float(o.detach().double().sum()) for o in learn.model.parameters()]))
    (out/f'{rank_distrib()}.json').write_text(json.dumps(facts))


@exhaustive
def test_two_processes_are_as_one(bears, tmp_path, together):
    runs = {}
    for n in 1, 2:
        (out := tmp_path/str(n)).mkdir()
        together(n, fit, bears, out)
        runs[n] = [json.loads((out/f'{o}.json').read_text()) for o in range(n)]
    one, (first, second) = runs[1][0], runs[2]
    for a, b, alone in zip(first, second, one):  # a seed
        assert a['weights'] == b['weights'] and a['weights'] != alone['weights']
        assert a['error'] == b['error'] == pytest.approx(a['own']), 'the table is of all validation photos'
        train, valid = a['n']
        assert a['n'] == alone['n'] and train % 16 and valid % 2, 'neither is shared out without a remainder'
        assert len(a['train']) == len(a['valid']) == 10, 'epochs'
        for part, n in ('train', train//16*16), ('valid', valid):
            for x, y in zip(a[part], b[part]): assert len(x) + len(y) == len({*x, *y}) == n
    e1, e2 = (sum(o['error'] for o in f)/3 for f in (one, first))
    p, n = (e1 + e2)/2, 3*valid
    print([o['error'] for o in one], [o['error'] for o in first], e1, e2)
    assert max(e1, e2) < .5, 'by chance it is 0.67'
    assert abs(e1 - e2) < 2.6*(2*p*(1 - p)/n)**.5, 'as far apart as two draws of as many answers are in 99 of 100'


@exhaustive
def test_two_processes_write_one_model(bears, tmp_path, together):
    from bearclf.ship.predict import load_classifier
    first, second = together(2, main, ['train', str(bears), *SMALL, '--epochs', '1', '--out', str(tmp_path/'model')])
    assert 'The model is in' in first.stdout and first.stdout.count('205 photos') == 1 and second.stdout == ''
    assert sorted(o.name for o in (tmp_path/'model').iterdir()) == ['export.json', 'export.onnx', 'export.pkl']
    clf = load_classifier(tmp_path/'model'/'export.pkl', trust=True)
    assert clf(next(bears.glob('*/*.jpg'))).label in ('black', 'grizzly', 'teddy')


@exhaustive
@pytest.mark.skipif(sys.platform != 'linux', reason='processes are looked up as on Linux')
@pytest.mark.parametrize('rank', '01')
def test_a_killed_process_ends_all_with_a_sentence(bears, tmp_path, rank):
    pytest.importorskip('accelerate')
    words = ['--nproc-per-node', '2', '--master-port', free_port(), '-m', 'bearclf', 'train', bears, *SMALL]
    p = subprocess.Popen([sys.executable, '-m', 'torch.distributed.run', *words, '--epochs', '5000', '--out',
                          tmp_path/'model'], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                         env=os.environ | {'PYTHONUNBUFFERED': '1', 'OMP_NUM_THREADS': '1'})
    before = ''
    for line in p.stdout:
        before += line
        if line.startswith('0 '): break  # the first epoch is over
    found = {o.environ().get('RANK'): o for o in psutil.Process(p.pid).children()}
    assert {'0', '1'} <= {*found}, before
    found[rank].kill()
    began = time.monotonic()
    said, _ = p.communicate(timeout=120)
    assert p.returncode and time.monotonic() - began < 90
    assert said.count(f'bearclf: {SENTENCE}') == 1 and '/gloo/' not in said, said
    assert list((tmp_path/'model').iterdir()) == []
