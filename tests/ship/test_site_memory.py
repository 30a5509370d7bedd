"What the page without a server keeps of photos that it has answered: in chromium, with large photos and with many"
import re
from pathlib import Path

import pytest
from PIL import Image

from bearclf.ship.site import write_site

pytestmark = pytest.mark.exhaustive
COUNT = '''window.urls = new Set(), window.bitmaps = 0;
    const make = URL.createObjectURL, revoke = URL.revokeObjectURL, decode = createImageBitmap;
    URL.createObjectURL = o => { const url = make.call(URL, o); urls.add(url); return url };
    URL.revokeObjectURL = o => { urls.delete(o); revoke.call(URL, o) };
    const close = ImageBitmap.prototype.close;
    ImageBitmap.prototype.close = function () { bitmaps--; close.call(this) };
    window.createImageBitmap = async (...o) => { const bitmap = await decode(...o); bitmaps++; return bitmap };'''


class Measured:
    "The page in a tab of its own, and what it holds"
    def __init__(self, browser, url):
        self.context = browser.new_context()
        self.page, self.n = self.context.new_page(), 0
        self.page.add_init_script(COUNT)
        self.page.goto(url)
        self.page.wait_for_selector('html[data-ready=yes]', timeout=120_000)
        self.cdp, whole = self.context.new_cdp_session(self.page), browser.new_browser_cdp_session()
        pids = [o['id'] for o in whole.send('SystemInfo.getProcessInfo')['processInfo'] if o['type'] == 'renderer']
        self.pid = max(pids, key=lambda o: self.mb(o))  # the one that holds a model

    def mb(self, pid, what='VmRSS'):
        return int(re.search(rf'{what}:\s+(\d+)', Path(f'/proc/{pid}/status').read_text())[1])/1024

    def answered(self, files):
        "Choose these photos together, and wait until each has its answer"
        self.n += len(files)
        self.page.set_input_files('#zone input[type=file]', files)
        for o in f'#list > li:nth-child({min(100, self.n)}) h2', '#list > li:not(:has(h2))', '#count:not([hidden])':
            self.page.wait_for_selector(o, state='detached' if 'not' in o else 'visible', timeout=600_000)

    def held(self):
        "Megabytes of JavaScript's heap and of the process, addresses of blobs, open pictures"
        for _ in range(2): self.cdp.send('HeapProfiler.collectGarbage')
        heap = self.cdp.send('Runtime.getHeapUsage')
        urls, bitmaps = self.page.evaluate('[urls.size, bitmaps]')
        return dict(heap=(heap['usedSize'] + heap.get('backingStorageSize', 0))/2**20, process=self.mb(self.pid),
                    urls=urls, bitmaps=bitmaps)


@pytest.fixture
def page(browser, demo_model, tmp_path):
    if not Path('/proc/self/status').exists(): pytest.skip('the memory of a process is read from /proc')
    p = Measured(browser, write_site(demo_model, tmp_path/'bears.html').as_uri())
    yield p
    p.context.close()


def test_photos_leave_nothing_behind(page, fresh_bears, tmp_path):
    "Fifty of 12 megapixels at once, and then one after the other"
    small = str(fresh_bears['teddy'][0])
    Image.open(small).convert('RGB').resize((4000, 3000)).save(tmp_path/'large.jpg')
    page.answered([tmp_path/'large.jpg']*50)
    page.answered([small]*60)  # the list is full
    first = page.held()
    for _ in range(10): page.answered([small]*9), page.answered([tmp_path/'large.jpg'])
    last = page.held()
    assert first['bitmaps'] == last['bitmaps'] == 0
    assert first['urls'] == last['urls'] == 100  # a small picture in each card
    assert last['heap'] < first['heap'] + 2 and last['process'] < first['process'] + 100
    page.page.click('#clear')
    assert page.held()['urls'] == 0
