"""How soon a map of photos is there, how far it is to be trusted, and how many frames a second its page draws.

    python benchmarks/photo_map.py                 # rows drawn by lot
    python benchmarks/photo_map.py ../shared/bears_small    # and these photos, by squeezenet1_0
    python benchmarks/photo_map.py --smoke         # 200 rows

The rows are clouds: 10 classes, 1,024 numbers each. The clock runs from the rows to the places, on one thread, in a
process that has imported all. The page is `bearclf/static/map.js` in a real browser without a GPU, 1280 by 900 pixels,
with the answers of the kernel played to it.
"""
import base64, json, os, sys, time, warnings
from pathlib import Path

warnings.simplefilter('ignore')
from common import heading, row, words

import numpy as np

STATIC = Path(__file__).resolve().parents[1]/'bearclf/static'

PAGE = """([js, numbers]) => {
  const bytes = (o) => new DataView(Uint8Array.from(atob(o), (c) => c.charCodeAt(0)).buffer), data = numbers.map(bytes);
  const n = data[0].byteLength / 8, names = [...Array(n).keys()].map((i) => `photo ${i}.jpg`);
  const word = (k) => [...Array(k).keys()].map((i) => `class ${i}`);
  const state = { round: 1, decided: [], pending: 0, back: 0, classes: word(10), turns: 1, aside: 0, total: n };
  let hear;
  const model = { on: (_, f) => hear = f, off() {}, send(m) {
    if (m.do !== 'map') return;
    const groups = { label: word(10), prediction: word(10), split: ['train'] };
    setTimeout(() => {
      hear({ kind: 'map', view: m.view, names, groups, folder: 'photos', ...state }, data);
      hear({ kind: 'places', round: 1, text: '' }, data);
    });
  } };
  const el = document.body.appendChild(document.createElement('div'));
  return import(URL.createObjectURL(new Blob([js], { type: 'text/javascript' }))).then((m) => {
    m.default.render({ model, el });
  });
}"""

DRIVE = """async (kind) => {
  const map = document.querySelector('.upper'), r = map.getBoundingClientRect(), start = performance.now();
  const x = (a) => r.left + r.width * (.5 - .4 * Math.cos(a)), y = (a) => r.top + r.height * (.5 - .4 * Math.sin(a));
  const at = (a) => ({ clientX: x(a), clientY: y(a) });
  const send = (type, a) => map.dispatchEvent(new PointerEvent(type, { ...at(a), button: 0, bubbles: true }));
  let frames = 0, worst = 0, last = start, a = 0;
  if (kind === 'lasso') send('pointerdown', 0);
  while (last - start < 3000) {
    a = (last - start) / 3000 * 6.28;
    const turn = { ...at(a), ctrlKey: true, deltaY: 20 * Math.sin(4 * a), bubbles: true, cancelable: true };
    if (kind === 'zoom') map.dispatchEvent(new WheelEvent('wheel', turn));
    else for (let k = 0; k < 3; k++) send('pointermove', a);
    await new Promise(requestAnimationFrame);
    const now = performance.now();
    [worst, last, frames] = [Math.max(worst, now - last), now, frames + 1];
  }
  if (kind === 'lasso') send('pointerup', 0);
  return [frames / (last - start) * 1000, worst];
}"""


def clouds(n, d=1024, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 10, n)
    return (rng.normal(size=(n, d)) + rng.normal(size=(10, d))[y]/3).astype(np.float32), y


def seconds(f, *args, **kw):
    start = time.perf_counter()
    found = f(*args, **kw)
    return found, time.perf_counter() - start


def times(sizes):
    from bearclf.clean.map import _Near, photo_map, same_label
    photo_map(clouds(50)[0])  # what is imported at the first call
    heading('rows', 'first picture, s', 'map, s', 'ten neighbours', 'in all numbers', 'more like, ms')
    for n in sizes:
        x, y = clouds(n)
        (_, quick), (xy, slow) = seconds(photo_map, x, quick=True), seconds(photo_map, x)
        near = _Near([*range(n)], x)
        more = min(seconds(near.of, i, 24)[1] for i in range(10))
        row(f'{n:,}', f'{quick:.1f}', f'{slow:.1f}', f'{same_label(xy, y).mean():.3f}',
            f'{same_label(near.x, y).mean():.3f}', f'{1000*more:.1f}')


def real(path, seeds=5):
    from common import need_weights
    need_weights()
    from bearclf.clean.map import photo_map, same_label
    from bearclf.folder.look import class_of, find_photos
    from bearclf.train.data import photo_dls
    from bearclf.train.features import photo_features
    from bearclf.train.learner import photo_learner
    files = find_photos(path)
    features = photo_features(files, photo_learner(photo_dls(path, 224, num_workers=0), 'squeezenet1_0'))
    files = [o for o in files if o in features.names]
    x, y, found = features(files), [class_of(o) for o in files], []
    for seed in range(seeds):
        xy, s = seconds(photo_map, x, seed)
        found.append((same_label(xy, y).mean(), s))
    print(f'{Path(path).name}, {len(files)} photos: ten neighbours with its label, by seed',
          *[f'{a:.3f} ({s:.1f} s)' for a, s in found])


def frames(n):
    sys.path.insert(0, str(STATIC.parents[1]/'tests'))
    from helpers import browser_path
    if not browser_path(): return print('no browser here, so no frames are counted')
    from playwright.sync_api import sync_playwright
    rng = np.random.default_rng(0)
    label = rng.integers(0, 10, n, np.uint16)
    numbers = rng.random((n, 2), np.float32), label, label, label*0, rng.random(n, np.float32)
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=browser_path(), args=['--no-sandbox', '--disable-gpu'])
        page = browser.new_page(viewport=dict(width=1280, height=900))
        page.add_style_tag(content=''.join((STATIC/o).read_text() for o in ('loop.css', 'map.css')))
        page.evaluate(PAGE, [(STATIC/'map.js').read_text(), [base64.b64encode(o.tobytes()).decode() for o in numbers]])
        page.wait_for_selector('[data-map=done]')
        heading(f'{n:,} points', 'frames a second', 'longest frame, ms')
        for kind in 'hover', 'lasso', 'zoom': row(kind, *[f'{o:.0f}' for o in page.evaluate(DRIVE, kind)])
        browser.close()


def main(folder=None, sizes=(414, 2000, 10_000)):
    times(sizes)
    if folder: real(folder)
    frames(sizes[-1])


if __name__ == '__main__':
    if '--smoke' in words(__doc__): main(sizes=(200,))
    else: main(*sys.argv[1:2])
