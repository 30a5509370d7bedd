"A training that `kill -9` stops within an epoch goes on from the last finished one, to the same weights bit for bit"
import os, time
from pathlib import Path

import pytest

from bearclf.practice.drawn import draw_bears


def train(folder, call, workers, checkpoint, weights, stop):
    "One training run. `stop` is `fit.epoch`: in the middle of that epoch it says so and waits"
    from fastai.vision.all import Callback, torch
    from bearclf.train.data import photo_dls
    from bearclf.train.learner import photo_learner
    from bearclf.train.steer import Resumable
    class Stop(Callback):
        fits = -1
        def before_fit(self): self.fits += 1
        def after_step(self):
            if [self.fits, self.epoch, self.iter] != [*map(int, stop.split('.')), 1]: return
            print('in the middle', flush=True)
            time.sleep(600)
    learn = photo_learner(photo_dls(folder, size=32, bs=8, num_workers=workers), 'resnet18', pretrained=False,
                          path=Path(weights).parent)
    cbs = [Resumable(checkpoint)]*bool(checkpoint) + [Stop()]*bool(stop)
    if call == 'fine_tune': learn.fine_tune(2, freeze_epochs=2, cbs=cbs)
    else: learn.fit_one_cycle(3, 5e-3, cbs=cbs)
    torch.save(learn.model.state_dict(), weights)


@pytest.fixture(scope='module')
def start(child, tmp_path_factory):
    "Start a training in a process of its own; each course of runs finds no smaller copies of the photos at first"
    tmp = tmp_path_factory.mktemp('resume')
    draw_bears(tmp/'bears', n=30, size=400)
    def _start(call, workers, checkpoint, weights, stop=''):
        env = os.environ | {'BEARCLF_CACHE': str(tmp/f'copies of {Path(checkpoint or weights).parent.name}')}
        return child(train, tmp/'bears', call, workers, checkpoint, weights, stop, cwd=tmp, env=env)
    return _start


@pytest.fixture(scope='module')
def finish(start, tmp_path_factory):
    "Train to the end; the weights, and what was said"
    import torch
    def _finish(call, workers, checkpoint=''):
        file = tmp_path_factory.mktemp('weights')/'w.pth'
        res = start(call, workers, checkpoint, file).finish()
        assert res.returncode == 0, res.stderr
        return torch.load(file, weights_only=True), res.stdout
    return _finish


def killed(run):
    "Wait until the run is in the middle of the epoch in which it is to stop, and kill it; what it said before"
    while 'in the middle' not in run.said():
        assert run.process.is_alive(), f'it ended by itself and said: {run.finish()}'
        time.sleep(.02)
    return run.kill()  # SIGKILL: nothing in the process learns of it


# each run is stopped at these places in turn (fit.epoch), and started once more to go to its end
@pytest.mark.parametrize('call, workers, stops, says', [
    ('fine_tune', 0, ['0.1', '1.0'], 'this fit was finished'),
    # frozen, and unfrozen before its own first checkpoint
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
