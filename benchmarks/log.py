"""A log of 100,000 predictions: ms to write one, and time and memory of a report in a Python of its own

    python benchmarks/log.py [N]
    python benchmarks/log.py --smoke        # 1,000 of them
"""
import random, subprocess, sys, tempfile, time
from pathlib import Path

from common import words
from bearclf.ship.portable import Prediction
from bearclf.watch.log import PredictionLog

REPORT = '''
import resource, sys, time
start = time.perf_counter()
from bearclf.watch.log import PredictionLog
from bearclf.watch.report import report
at = time.perf_counter()
res = report(PredictionLog(sys.argv[1]), days=60)
said = str(res) if sys.argv[2] == "text" else res._repr_html_()
end = time.perf_counter()
mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/1024
print(f"{sys.argv[2]}: {end - start:.2f} s in all, {end - at:.2f} s after the imports, {mb:.0f} MB, {len(res.now):,} now")
'''


def main(n=100_000):
    rng, now = random.Random(1), time.time() - 70*86400
    log = PredictionLog(Path(tempfile.mkdtemp())/'log.db', clock=lambda: now)
    start = time.perf_counter()
    for i in range(n):
        now += 70*86400/n
        label, p = rng.choice(['black', 'grizzly', 'teddy']), rng.uniform(.4, 1)
        k = log.add(Prediction(label, p, {label: p}, True, near=rng.random()), source='camera 1', model='abc',
                    role='reference' if i < n//100 else 'live', alarm=rng.random() < .01)
        if rng.random() < .1: log.decide(k, label, 'ranger')
    print(f'{(time.perf_counter() - start)/n*1000:.2f} ms a prediction, {log.file.stat().st_size/1e6:.1f} MB')
    for kind in 'text', 'html': subprocess.run([sys.executable, '-W', 'ignore', '-c', REPORT, log.file, kind], check=True)


if __name__ == '__main__':
    args = words(__doc__)
    if '--smoke' in args: main(1000)
    else: main(*map(int, args))
