"""`bearclf train` with three networks: errors on photos of another search, and seconds, each in a process of its own.

    TORCH_HOME=../shared/torch python benchmarks/bodies.py ../shared/bears ../shared/bears_unseen
    python benchmarks/bodies.py --smoke     # 60 small drawn bears
"""
import json, os, re, statistics, subprocess, sys, tempfile, time
from pathlib import Path

from bearclf.practice.drawn import drawn_path
from common import heading, row, spread, words

WAYS = {'squeezenet1_0': ['--arch', 'squeezenet1_0'], 'efficientnet_lite0': ['--arch', 'efficientnet_lite0'],
        'resnet18 from nothing': ['--no-pretrained'], 'squeezenet1_0 --full': ['--arch', 'squeezenet1_0', '--full']}
SLOW = 'resnet18 from nothing', 'squeezenet1_0 --full'  # one seed


def bearclf(*args):
    "What the command says, and how long it took"
    with tempfile.TemporaryDirectory() as cache:
        start = time.perf_counter()
        res = subprocess.run([sys.executable, '-W', 'ignore', '-m', 'bearclf', *map(str, args)], capture_output=True,
                             text=True, env=os.environ | {'BEARCLF_CACHE': cache})
        if res.returncode: sys.exit(res.stderr)
        return res.stdout, time.perf_counter() - start


def training(said, n_epochs):
    "Seconds that the training alone took, out of what the command said"
    alone = re.search(r'([\d.]+) s for the body.*?([\d.]+) s to train', said)
    if alone: return sum(map(float, alone.groups()))
    n, ms = int(re.search(r'(\d+) photos of', said)[1]), float(re.search(r'([\d.]+) ms for each photo in', said)[1])
    return round(.8*n)*n_epochs*ms/1000


def main(path, unseen, ways=WAYS, seeds=(42, 1, 2)):
    heading('network', 'wrong of another search', 'whole process, s', 'training alone, s')
    for name, options in ways.items():
        wrong, whole, alone = [], [], []
        for seed in seeds[:1] if name in SLOW else seeds:
            with tempfile.TemporaryDirectory() as out:
                said, seconds = bearclf('train', path, *options, '--seed', seed, '--out', out)
                n_train = round(.8*int(re.search(r'(\d+) photos of', said)[1]))
                epochs = max(7, round(10000/n_train)) if '--no-pretrained' in options else 5  # as `fit_photos` chooses
                whole.append(seconds); alone.append(training(said, epochs))
                judged = json.loads(bearclf('evaluate', out, unseen, '--json')[0])
                wrong.append(judged['n_wrong'])
        row(name, f'{", ".join(map(str, wrong))} of {judged["n"]} ({statistics.mean(wrong)/judged["n"]:.1%})',
            spread(whole), spread(alone))


if __name__ == '__main__':
    if '--smoke' in words(__doc__): main(*[drawn_path(60, 64)]*2, {k: WAYS[k] for k in ['efficientnet_lite0']}, [42])
    else: main(*map(Path, words(__doc__)))
