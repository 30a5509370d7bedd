"""The page without a server, opened from file:// in chromium, against Python with the same export.onnx.

    python benchmarks/one_file.py                # the demo model
    python benchmarks/one_file.py models/mine    # other models
    python benchmarks/one_file.py --smoke        # one run

Ready: from opening the page, or starting Python, to a model that can be asked. A photo: from choosing the file to its
answer on the page, or from the path to the answer in Python. Medians of 5, each in a new tab or process.
"""
import json, shutil, statistics, subprocess, sys, tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

from bearclf.practice.drawn import draw_bear
from bearclf.ship.predict import demo_model
from bearclf.ship.site import write_site
from app import large_photo
from common import heading, row, spread, words

WATCH = '''addEventListener('change', () => { window.chosen = performance.now(); window.answered = 0; }, true);
new MutationObserver(() => {
  if (!window.ready && document.documentElement.dataset.ready) window.ready = performance.now();
  const card = document.querySelector('#list > li');
  if (!window.answered && card && card.querySelector('h2')) window.answered = performance.now();
}).observe(document, {subtree: true, childList: true, attributes: true});'''

PYTHON = '''
import json, sys, time
start = time.perf_counter()
from bearclf.ship.predict import load_classifier
clf, ready = load_classifier(sys.argv[1]), time.perf_counter()
def ms(f):
    t = time.perf_counter()
    clf(f)
    return 1000*(time.perf_counter() - t)
print(json.dumps([ready - start, [ms(o) for o in sys.argv[3:]], ms(sys.argv[2])]))
'''


def in_browser(browser, url, large, photos):
    "Seconds to ready, ms of each photo, ms of the large one; nothing but the page may be asked for"
    page, asked = browser.new_page(), []
    page.on('request', lambda o: asked.append(o.url))
    page.add_init_script(WATCH)
    page.goto(url)
    page.wait_for_selector('html[data-ready=yes]')
    ready = page.evaluate('ready')/1000
    def ms(file):
        page.click('#clear') if page.is_visible('#clear') else None
        page.set_input_files('#zone input[type=file]', file)
        page.wait_for_selector('#list > li h2')
        return page.evaluate('answered - chosen')
    times = [ms(o) for o in photos], ms(large)
    page.close()
    assert [o for o in asked if not o.startswith(('file:', 'blob:', 'data:'))] == [], asked
    return ready, *times


def in_python(model, large, photos):
    args = [sys.executable, '-c', PYTHON, str(model), *map(str, [large, *photos])]
    return json.loads(subprocess.run(args, check=True, capture_output=True).stdout)


def table(browser, model, folder, runs):
    page, large, photos = folder/'page.html', folder/'large.jpg', [folder/f'{i}.jpg' for i in range(10)]
    large.write_bytes(large_photo())
    for i, o in enumerate(photos): draw_bear(['black', 'grizzly', 'teddy'][i % 3], 100 + i, 512).save(o)
    write_site(model, page)
    ours, python = [], []
    for _ in range(runs):
        ours.append(in_browser(browser, page.as_uri(), large, photos))
        python.append(in_python(model, large, photos))
    print(f'\n{json.loads((Path(model)/"export.json").read_text())["arch"]}, {page.stat().st_size/1e6:.1f} MB\n')
    heading('', 'page in the browser', 'Python', 'ratio')
    for k, f, pick in [('ready, s', '{:.2f}', lambda o: o[0]),
                       ('a photo of 512 px, ms', '{:.0f}', lambda o: statistics.median(o[1][1:])),
                       ('the first photo, ms', '{:.0f}', lambda o: o[1][0]),
                       ('a photo of 12 megapixels, ms', '{:.0f}', lambda o: o[2])]:
        a, b = [*map(pick, ours)], [*map(pick, python)]
        row(k, *(spread(o, f, statistics.median) for o in (a, b)), f'{statistics.median(a)/statistics.median(b):.1f}')


if __name__ == '__main__':
    args = words(__doc__)
    runs, models = 1 if '--smoke' in args else 5, [o for o in args if o != '--smoke'] or [demo_model()]
    chrome = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))), None)
    if not chrome: sys.exit('There is no chromium here. Install it.')
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=chrome, args=['--no-sandbox'])
        for o in models:
            with tempfile.TemporaryDirectory() as d: table(browser, o, Path(d), runs)
        browser.close()
