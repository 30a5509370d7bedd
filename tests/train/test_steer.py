"A training that `kill -9` stops in the middle of an epoch goes on from the last finished one, to the same weights bit for bit"
import os, subprocess, sys
from pathlib import Path

import pytest

top = Path(__file__).resolve().parent.parent

# One training run: python run.py FOLDER CALL WORKERS CHECKPOINT WEIGHTS STOP. STOP is `fit.epoch`: in the middle of that epoch it says so and waits.
RUN = '''
import sys, warnings
warnings.simplefilter('ignore')
from bearclf.folder.look import *
from bearclf.train.data import *
from bearclf.train.steer import *
from bearclf.train.bodies import *
from bearclf.train.learner import *
from fastai.vision.all import *

class Stop(Callback):
    def __init__(self, at): self.at,self.fits = at,-1
    def before_fit(self): self.fits += 1
    def after_step(self):
        if (self.fits, self.epoch, self.iter) != (*self.at, 1): return
        print('in the middle', flush=True)
        time.sleep(600)

folder, call, workers, checkpoint, weights, stop = sys.argv[1:]
dls = photo_dls(folder, size=32, bs=8, num_workers=int(workers))
learn = photo_learner(dls, 'resnet18', pretrained=False, path=Path(weights).parent)
cbs = [Resumable(checkpoint)] if checkpoint else []
if stop: cbs.append(Stop([int(o) for o in stop.split('.')]))
if call == 'fine_tune': learn.fine_tune(2, freeze_epochs=2, cbs=cbs)
else: learn.fit_one_cycle(3, 5e-3, cbs=cbs)
torch.save(learn.model.state_dict(), weights)
'''


@pytest.fixture(scope='module')
def start(tmp_path_factory):
    "Start a training in a process of its own, of photos of which smaller copies are made; each course of runs finds no copies at first"
    from bearclf.practice.drawn import draw_bears
    tmp = tmp_path_factory.mktemp('resume')
    draw_bears(tmp/'bears', n=30, size=400)
    (tmp/'run.py').write_text(RUN, encoding='utf-8')
    def _start(call, workers, checkpoint, weights, stop=''):
        env = os.environ | {'PYTHONPATH': str(top), 'BEARCLF_CACHE': str(tmp/f'copies of {Path(checkpoint or weights).parent.name}')}
        return subprocess.Popen([sys.executable, '-W', 'ignore', tmp/'run.py', tmp/'bears', call, str(workers), checkpoint, weights, stop],
                                cwd=tmp, env=env, stdout=subprocess.PIPE, text=True)
    return _start


@pytest.fixture(scope='module')
def finish(start, tmp_path_factory):
    "Train to the end; the weights, and what was said"
    import torch
    def _finish(call, workers, checkpoint=''):
        file = tmp_path_factory.mktemp('weights')/'w.pth'
        said = start(call, workers, checkpoint, file).communicate(timeout=120)
        return torch.load(file, weights_only=True), said[0]
    return _finish


def killed(process):
    "Wait until the run is in the middle of the epoch in which it is to stop, and kill it; what it said before"
    said = ''
    for line in process.stdout:
        said += line
        if 'in the middle' in line: break
    else: pytest.fail(f'it ended by itself and said: {said}')
    process.kill()  # SIGKILL: nothing in the process learns of it
    assert process.wait(30) == (-9 if os.name != 'nt' else 1)
    process.stdout.close()
    return said


# each run is stopped at these places in turn (fit.epoch), and started once more to go to its end
@pytest.mark.parametrize('call, workers, stops, says', [
    ('fine_tune', 0, ['0.1', '1.0'], 'this fit was finished'),        # frozen, and unfrozen before its own first checkpoint
    ('fine_tune', 2, ['0.1', '1.1'], 'going on after epoch 1 of 2'),  # frozen, and unfrozen
    ('fit_one_cycle', 2, ['0.2'], 'going on after epoch 2 of 3')])
def test_killed_runs_end_with_the_same_weights(start, finish, tmp_path, call, workers, stops, says):
    import torch
    checkpoint, weights = tmp_path/'run.pth', tmp_path/'none.pth'
    said = [killed(start(call, workers, checkpoint, weights, o)) for o in stops]
    assert checkpoint.exists() and not weights.exists()
    assert all('run.pth: going on after epoch 1 of 2' in o for o in said[1:])
    resumed, last = finish(call, workers, checkpoint)
    assert f'run.pth: {says}' in last
    want, _ = finish(call, workers)
    assert resumed.keys() == want.keys()
    assert [k for k in want if not torch.equal(resumed[k], want[k])] == []
    assert [o.name for o in tmp_path.iterdir()] == ['run.pth'], 'nothing is left behind'
