"""What a shorter spin of OpenMP's threads is worth: one training step of resnet18, beside a busy process and alone.

    python benchmarks/threads.py             # each cell is the median of 5 interleaved runs
    python benchmarks/threads.py --smoke     # one run of each, alone

The photos are of 64 px, in batches of 32.
"""
import os, statistics, subprocess, sys

from common import heading, row, words

STEP = '''
import time, warnings; warnings.simplefilter('ignore')
import torch
from torchvision.models import resnet18
model = resnet18(num_classes=3)
opt, x, y = torch.optim.Adam(model.parameters()), torch.randn(32, 3, 64, 64), torch.randint(0, 3, (32,))
def step(): torch.nn.functional.cross_entropy(model(x), y).backward(); opt.step(); opt.zero_grad()
step()
start = time.perf_counter()
for _ in range(8): step()
print((time.perf_counter() - start)/8/32*1000)
'''
SETTINGS = {"OpenMP's own": {}, 'bearclf (GOMP_SPINCOUNT=10000)': {'GOMP_SPINCOUNT': '10000'}}


def ms_per_photo(env):
    res = subprocess.run([sys.executable, '-c', STEP], env=os.environ | env, check=True, capture_output=True, text=True)
    return float(res.stdout)


def measure(busy):
    "Median milliseconds a photo for each setting, beside a process that keeps one core busy if `busy`"
    neighbour = subprocess.Popen([sys.executable, '-c', 'while True: pass']) if busy else None
    try: runs = [{name: ms_per_photo(env) for name, env in SETTINGS.items()} for _ in range(5)]
    finally:
        if neighbour: neighbour.kill()
    return {name: statistics.median(o[name] for o in runs) for name in SETTINGS}


def main():
    alone, beside = measure(False), measure(True)
    print(f'{os.cpu_count()} cores\n')
    heading('setting', 'alone, ms a photo', 'beside a busy process, ms a photo')
    for name in SETTINGS: row(name, f'{alone[name]:.1f}', f'{beside[name]:.1f}')
    own, ours = SETTINGS
    row('ratio', f'{alone[own]/alone[ours]:.2f}', f'{beside[own]/beside[ours]:.2f}')


if __name__ == '__main__':
    os.environ.pop('GOMP_SPINCOUNT', None)
    if '--smoke' in words(__doc__): print({name: ms_per_photo(env) for name, env in SETTINGS.items()})
    else: main()
