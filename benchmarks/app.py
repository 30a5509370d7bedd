"""The chapter's app and ours, served by Voilà to a real browser (chromium), with one and the same model.

    python benchmarks/app.py              # some minutes
    python benchmarks/app.py --smoke      # one visit of each page

The chapter's notebook is as in the book but for one line, which ipywidgets 8 needs. Ready is a page with its button and
its model. Memory is what processes have of their own and their part of what they share (PSS), without the browser.
"""
import asyncio, io, os, re, shutil, socket, statistics, subprocess, sys, tempfile, time
from contextlib import contextmanager
from pathlib import Path

import nbformat, psutil
from PIL import Image
from playwright.async_api import async_playwright

from bearclf.practice.drawn import draw_bear
from bearclf.ship.page import _voila_command, _voila_env, app_notebook
from bearclf.ship.predict import demo_model, load_classifier
from common import heading, row, words

CHAPTER = '''
from fastai.vision.all import *
from fastai.vision.widgets import *
---
path = Path()
learn_inf = load_learner(path/'export.pkl', cpu=True)
btn_upload = widgets.FileUpload()
out_pl = widgets.Output()
lbl_pred = widgets.Label()
btn_run = widgets.Button(description='Classify')
---
def on_click_classify(change):
    img = PILImage.create(io.BytesIO(btn_upload.value[-1].content))  # the book: btn_upload.data[-1]
    out_pl.clear_output()
    with out_pl: display(img.to_thumb(128,128))
    pred,pred_idx,probs = learn_inf.predict(img)
    lbl_pred.value = f'Prediction: {pred}; Probability: {probs[pred_idx]:.04f}'

btn_run.on_click(on_click_classify)
---
VBox([widgets.Label('Select your bear!'), btn_upload, btn_run, out_pl, lbl_pred])
'''
TIMEOUT = 120_000 # milliseconds


def large_photo(megapixels=12):
    "A drawn bear as a phone would send it: a JPEG with some noise"
    import numpy as np
    h, w = round((megapixels*1e6*3/4)**.5), round((megapixels*1e6*4/3)**.5)
    x = np.asarray(draw_bear('grizzly', 1, 512).resize((w, h))).astype('int16')
    x = x + np.random.default_rng(0).normal(0, 6, (h, w, 1)).astype('int16')
    b = io.BytesIO()
    Image.fromarray(x.clip(0, 255).astype('uint8')).save(b, 'JPEG', quality=90)
    return b.getvalue()


def free_port():
    with socket.socket() as s: s.bind(('127.0.0.1', 0)); return s.getsockname()[1]


def tree(proc):
    "`proc` and all that it started"
    return [o for o in (proc, *proc.children(recursive=True)) if o.is_running() and o.status() != 'zombie']


def pss(procs): return sum(o.memory_full_info().pss for o in procs)/1e6


class Chapter:
    name, ready = 'chapter', 'button:has-text("Classify")'
    def __init__(self, model, folder):
        nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(o.strip()) for o in CHAPTER.split('---\n')])
        nb.metadata['kernelspec'] = dict(name='python3', display_name='python3', language='python')
        folder.mkdir()
        nbformat.write(nb, folder/'app.ipynb')
        shutil.copy(model/'export.pkl', folder)
        self.folder = folder
    def command(self, port, preheat):
        return [sys.executable, '-m', 'voila', 'app.ipynb', '--no-browser', f'--port={port}',
                f'--preheat_kernel={preheat}'], os.environ, self.folder
    async def choose(self, page, name, data):
        async with page.expect_file_chooser() as chooser: await page.locator('button:has-text("Upload")').click()
        await (await chooser.value).set_files(dict(name=name, mimeType='image/jpeg', buffer=data))
        await page.wait_for_selector('button:has-text("(1)")')
    async def answered(self, page, name): await page.wait_for_selector('text=/Prediction: .*Probability/')


class Ours:
    name, ready = 'bearclf', '.bearclf-head:has-text("I can tell")'
    def __init__(self, model, folder):
        folder.mkdir()
        shutil.copy(app_notebook(), folder)
        self.model, self.folder = model, folder
    def command(self, port, preheat):
        found = _voila_command(self.folder/'page.ipynb', port, 'localhost', preheat)
        return found, _voila_env(self.model), self.folder
    def served(self, port):
        return [sys.executable, '-m', 'bearclf', 'app', '--model', str(self.model), '--port', str(port)], os.environ, self.folder
    async def choose(self, page, name, data):
        await page.set_input_files('.bearclf-upload input[type=file]',
                                   dict(name=name, mimeType='image/jpeg', buffer=data))
        await page.wait_for_selector('.bearclf-go:enabled')
    async def answered(self, page, name): await page.wait_for_selector(f'.bearclf-of:text-is("{name}")')


@contextmanager
def serving(command, env, cwd, port):
    "A server, once it answers"
    from urllib.error import HTTPError
    from urllib.request import urlopen
    proc = psutil.Popen(command, env=env, cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while True:
            if proc.poll() is not None: sys.exit(f'{command[2]} has ended.')
            try: urlopen(f'http://localhost:{port}/voila/static/'); break
            except HTTPError: break
            except OSError: time.sleep(.1)
        yield proc
    finally:
        for o in tree(proc)[::-1]: o.terminate()
        proc.wait(60)


async def opened(browser, port, side):
    "A page that is ready, and the seconds that it took"
    page = await browser.new_page()
    page.set_default_timeout(TIMEOUT)
    began = time.perf_counter()
    await page.goto(f'http://localhost:{port}/', timeout=TIMEOUT)
    await page.wait_for_selector(side.ready)
    return page, time.perf_counter()-began


async def asked(page, side, name, data):
    "Seconds from choosing a photo to its answer, and from the click"
    began = time.perf_counter()
    await side.choose(page, name, data)
    click = time.perf_counter()
    await page.locator('button:has-text("Classify")').click()
    await side.answered(page, name)
    return time.perf_counter()-began, time.perf_counter()-click


def kernels(proc): return [o for o in tree(proc) if 'ipykernel_launcher' in ' '.join(o.cmdline())]


async def visit(browser, side, photo):
    "Cold, with a kernel that waits already, and what it takes"
    found, port = {}, free_port()
    with serving(*side.command(port, False), port) as proc:
        page, found['page ready, cold, s'] = await opened(browser, port, side)
        await page.close()
    with serving(*side.command(port := free_port(), True), port) as proc:
        while not any(pss([o]) > 60 for o in kernels(proc)): time.sleep(.5)
        time.sleep(15)  # the kernel that waits has done its work
        page, found['page ready, preheated, s'] = await opened(browser, port, side)
        ours = kernels(proc)
        found['choosing a photo of 12 megapixels to its answer, s'], found['click to answer, s'] = await asked(
            page, side, 'bear.jpg', photo)
        found["a visitor's kernel, MB"] = max(pss([o]) for o in ours)
        time.sleep(15)
        found['Voilà with a visitor and a kernel that waits, MB'] = pss(tree(proc))
        await page.close()
    return found


async def crowd(browser, side, photos, n=20):
    "Of `n` visitors at once with a few photos each, how many were answered in full; and the seconds that it took"
    async def one(i):
        context = await browser.new_context()
        try:
            page, _ = await opened(context, port, side)
            for j, photo in enumerate(photos): await asked(page, side, f'{i}-{j}.jpg', photo)
            return True
        except Exception: return False
        finally: await context.close()
    with serving(*side.served(port := free_port()), port):
        began = time.perf_counter()
        return sum(await asyncio.gather(*map(one, range(n)))), time.perf_counter()-began


LAUNCH = ('import resource, subprocess, sys, time; began = time.perf_counter(); '
          'subprocess.run(sys.argv[1:], check=True, stdout=-3, stderr=-3); '
          'print(time.perf_counter()-began, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss/1024)')


def cold(*command):
    "Seconds and peak memory (MB) of a program, started by a small one: what starts it counts until it is another"
    done = subprocess.run([sys.executable, '-c', LAUNCH, sys.executable, *command], capture_output=True, text=True)
    return [float(o) for o in done.stdout.split()] if done.returncode == 0 else sys.exit(done.stderr)


def loop(model, photos, n):
    "Milliseconds a photo, median: fastai's `predict`, ours, and decoding with ONNX Runtime's bare run"
    import warnings
    from fastai.vision.all import load_learner
    from bearclf.photo import any_photo
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        learn = load_learner(model/'export.pkl')
    clf = load_classifier(model)
    x = clf._ready(photos[0])[None]
    def bare(o): any_photo(o); clf.session.run(None, {'photo': x})
    def book(o):
        with learn.no_bar(): learn.predict(o)
    def median(f):
        seconds = []
        for o in (photos*n)[:n]:
            began = time.perf_counter(); f(o); seconds.append(time.perf_counter()-began)
        return 1000*statistics.median(seconds)
    for f in book, clf, bare: f(photos[0])
    return [median(f) for f in (book, clf, bare)]


def compared(name, chapter, ours, f='{:.1f}'): row(name, f.format(chapter), f.format(ours), f'{ours/chapter:.2f}')


async def main(smoke=False):
    model, photo = demo_model(), large_photo(1 if smoke else 12)
    small = []
    for i, o in enumerate(('black', 'grizzly', 'teddy', 'black', 'grizzly')):
        b = io.BytesIO(); draw_bear(o, i, 512).save(b, 'JPEG'); small.append(b.getvalue())
    chrome = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))), None)
    if not chrome: sys.exit('There is no chromium here. Install it.')
    with tempfile.TemporaryDirectory() as tmp:
        sides = Chapter(model, Path(tmp)/'chapter'), Ours(model, Path(tmp)/'ours')
        async with async_playwright() as p:
            browser = await p.chromium.launch(executable_path=chrome, args=['--no-sandbox'])
            theirs, ours = [await visit(browser, o, photo) for o in sides]
            heading('', 'chapter', 'bearclf', 'ratio')
            for k in ours: compared(k, theirs[k], ours[k], '{:.0f}' if 'MB' in k else '{:.1f}')
            if not smoke:
                with serving(*sides[1].served(port := free_port()), port) as proc:
                    page, _ = await opened(browser, port, sides[1])
                    await asked(page, sides[1], 'bear.jpg', photo)
                    time.sleep(15)
                    row('all that `bearclf app` runs with a visitor, MB', '', f'{pss(tree(proc)):.0f}', '')
                    await page.close()
                done, seconds = await crowd(browser, sides[1], small)
                row('visitors of 20 at once, 5 photos each, who had all their answers', '', f'{done} ({seconds:.0f} s)', '')
            await browser.close()
        book, ours, bare = loop(model, small, 3 if smoke else 40)
        compared('one photo after the other, ms a photo', book, ours)
        row('the same, against decoding and the bare run of ONNX Runtime', '', f'{bare:.1f}', f'{ours/bare:.2f}')
        (file := Path(tmp)/'bear.jpg').write_bytes(small[0])
        script = ('import sys; from fastai.vision.all import *; learn = load_learner(sys.argv[1]); '
                  'print(learn.predict(sys.argv[2]))')
        theirs, ours = cold('-c', script, str(model/'export.pkl'), str(file)), cold(
            '-m', 'bearclf', 'predict', str(model), str(file))
        compared('one answer in a new process, s', theirs[0], ours[0])
        compared('the same, MB at its peak', theirs[1], ours[1], '{:.0f}')


if __name__ == '__main__': asyncio.run(main('--smoke' in words(__doc__)))
