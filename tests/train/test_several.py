"Two processes over gloo that train one model, as `torchrun` starts them; on drawn bears of 32 pixels"
import json, os, signal, socket, subprocess, sys, time
from pathlib import Path

import pytest

from bearclf.practice.drawn import draw_bears

pytestmark = [pytest.mark.exhaustive,
              pytest.mark.skipif(sys.platform != 'linux', reason='the processes are found and killed as on Linux')]
pytest.importorskip('accelerate')

SCRIPT = '''
import json, os, sys
from pathlib import Path
from bearclf.all import *
from bearclf.train.several import beside_others, goes_on_alone
from bearclf.ship.export import export_classifier

class Seen(Callback):
    "Which photos this process is given, in each epoch, to learn from and to judge"
    def before_fit(self): self.epochs = []
    def before_epoch(self): self.epochs.append({'train': [], 'valid': []})
    def note(self, part):
        get, dl = self.dl.get_idxs, self.dl
        def noted():
            idxs = get(); self.epochs[-1][part] += [dl.dataset.items[i].name for i in idxs]; return idxs
        if not hasattr(dl, 'is_noted'): dl.get_idxs, dl.is_noted = noted, True
    order = 20  # after the photos are shared out
    def before_train(self): self.note('train')
    def before_validate(self): self.note('valid')

path, out, seed = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
rank, seen = os.environ.get('RANK', '0'), Seen()
with beside_others():
    learn = train_photos(path, 'resnet18', 8, 32, pretrained=False, seed=seed, bs=16, cbs=seen)
    (out/f'seen{rank}.json').write_text(json.dumps(seen.epochs))
    if goes_on_alone():
        (out/'table.json').write_text(json.dumps(learn.recorder.values[-1]))
        export_classifier(learn, out)
'''


@pytest.fixture(scope='module')
def bears(tmp_path_factory):
    path = tmp_path_factory.mktemp('bears')/'drawn'
    draw_bears(path, 201, 64, seed=3)
    return path


def free_port():
    with socket.socket() as s:
        s.bind(('localhost', 0))
        return s.getsockname()[1]


def launcher(n): return [sys.executable, '-m', 'torch.distributed.run', '--nproc-per-node', n, '--master-port', free_port()]


def run(n, *words, **kw):
    start = launcher(n) if n > 1 else [sys.executable]
    return subprocess.Popen(list(map(str, [*start, *words])), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **kw)


def trained(n, bears, out, seed):
    out.mkdir()
    (out/'fit.py').write_text(SCRIPT)
    p = run(n, out/'fit.py', bears, out, seed)
    said, _ = p.communicate(timeout=900)
    assert p.returncode == 0, said[-3000:]
    return [json.loads(o.read_text()) for o in sorted(out.glob('seen*.json'))], json.loads((out/'export.json').read_text()), said


def test_two_processes_are_as_one(bears, tmp_path):
    errors = {1: [], 2: []}
    for seed in range(3):
        for n in errors:
            seen, facts, said = trained(n, bears, out := tmp_path/f'{n}-{seed}', seed)
            errors[n].append(facts['error_rate'])
            assert len(seen) == n and [o.name for o in out.glob('*.pkl')] == ['export.pkl']
            table = json.loads((out/'table.json').read_text())
            assert abs(table[-1] - facts['n_wrong']/facts['n_valid']) < 1e-6, 'the table is of all validation photos'
            assert said.count('kept aside') <= 1 and said.count('201 photos') == 1, 'one process speaks'
            for parts in zip(*seen):  # an epoch
                train, valid = ([o for p in parts for o in p[k]] for k in ('train', 'valid'))
                assert len(set(valid)) == len(valid) == facts['n_valid']
                assert len(set(train)) == len(train) and len(train) >= facts['n_photos'] - facts['n_valid'] - 15
    print(errors)
    mean = {n: sum(o)/3 for n, o in errors.items()}
    assert abs(mean[1] - mean[2]) < .15 and max(mean.values()) < .5, errors


def children(pid):
    found = {}
    for o in Path('/proc').glob('[0-9]*'):
        try:
            if int((o/'stat').read_text().rsplit(')', 1)[1].split()[1]) != pid: continue
            env = dict(e.split('=', 1) for e in (o/'environ').read_text().split('\0') if '=' in e)
        except OSError: continue
        if 'RANK' in env: found[env['RANK']] = int(o.name)
    return found


@pytest.mark.parametrize('rank', '01')
def test_a_killed_process_ends_all_with_a_sentence(bears, tmp_path, rank):
    p = run(2, '-m', 'bearclf', 'train', bears, '--full', '--no-pretrained', '--arch', 'resnet18', '--size', 32,
            '--epochs', 500, '--out', tmp_path/'model', env=os.environ | {'PYTHONUNBUFFERED': '1'})
    before = ''
    for line in p.stdout:
        before += line
        if line.startswith('0 '): break  # the first epoch is over
    assert children(p.pid).keys() == {'0', '1'}, before
    os.kill(children(p.pid)[rank], signal.SIGKILL)
    began = time.monotonic()
    said, _ = p.communicate(timeout=120)
    assert p.returncode and time.monotonic() - began < 90
    assert said.count('bearclf: The training by 2 processes has ended before its time') == 1, said
    assert list((tmp_path/'model').iterdir()) == []
