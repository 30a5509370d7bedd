"""What it is worth on a processor that freed memory is kept for the next batch (`bearclf.train.machine`), and its price.

    python benchmarks/kept.py             # each cell is the median of 3 interleaved runs
    python benchmarks/kept.py --smoke     # one run of one network

Batches of 32 at 224 px, in channels_last, weights that have learned nothing. Each run is a process of its own.
"""
import os, statistics, subprocess, sys

from common import heading, row, words

RUN = '''
import resource, sys, time, warnings; warnings.simplefilter('ignore')
import torch, torchvision
from bearclf.train.bodies import efficientnet_lite0
from bearclf.train.machine import _keep_memory
name, keep, train = sys.argv[1:]
if keep == 'kept': _keep_memory()
model = efficientnet_lite0(False) if name == 'efficientnet_lite0' else getattr(torchvision.models, name)()
model = model.to(memory_format=torch.channels_last).train(train == 'train')
opt, x = torch.optim.Adam(model.parameters()), torch.randn(32, 3, 224, 224).contiguous(memory_format=torch.channels_last)
def step():
    if train != 'train':
        with torch.inference_mode(): return model(x)
    model(x).mean().backward(); opt.step(); opt.zero_grad()
step()
start = time.perf_counter()
for _ in range(5): step()
print((time.perf_counter() - start)/5/32*1000, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/1024)
'''
NETWORKS = 'efficientnet_lite0', 'squeezenet1_0', 'resnet18'


def run(*args):
    "Milliseconds a photo, and the most MB at any moment"
    res = subprocess.run([sys.executable, '-c', RUN, *args], check=True, capture_output=True, text=True)
    return tuple(map(float, res.stdout.split()[-2:]))


def main():
    print(f'{os.cpu_count()} cores\n')
    heading('network', 'what', 'given back, ms a photo', 'kept, ms a photo', 'ratio', 'given back, MB', 'kept, MB')
    for name in NETWORKS:
        for what in 'look', 'train':
            runs = [[run(name, keep, what) for keep in ('given back', 'kept')] for _ in range(3)]
            (slow, less), (fast, more) = [[statistics.median(o) for o in zip(*side)] for side in zip(*runs)]
            row(name, what, f'{slow:.1f}', f'{fast:.1f}', f'{slow/fast:.2f}', f'{less:.0f}', f'{more:.0f}')


if __name__ == '__main__':
    if '--smoke' in words(__doc__): print({o: run(NETWORKS[0], o, 'look') for o in ('given back', 'kept')})
    else: main()
