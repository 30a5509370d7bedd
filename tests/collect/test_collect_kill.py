"`kill -9` of collect at random moments: the next run ends in the same folder, and fetches nothing twice"
import csv, json, os, random, subprocess, sys, time
from pathlib import Path

import pytest

from bearclf.collect.fetch import _Pantry
from bearclf.practice.web import practice_web

FAULTS = dict(dead=2, stalled=1, html=2, truncated=2, same=3, sizes=2, once500=3, webp=2, exif=2)
CODE = '''
import json, sys
from bearclf.collect.collect import collect
kw = json.loads(sys.argv[1])
import aiohttp, pandas, imagehash, requests, ddgs
print('ready', flush=True)
collect({'black': 'black bear', 'grizzly': 'grizzly bear', 'teddy': 'teddy bear'}, **kw)
print('done', flush=True)
'''


@pytest.fixture(scope='module')
def web():
    with practice_web(n=24, size=96, latency=.02, faults=FAULTS) as web: yield web


def start(web, path):
    "A process that collects into `path`, once it is ready to begin"
    kw = dict(web.reach, dest=str(path/'bears'), n=16, allow_hosts=web.hosts, timeout=.6, wait=.05)
    p = subprocess.Popen([sys.executable, '-W', 'ignore', '-c', CODE, json.dumps(kw)], stdout=subprocess.PIPE, text=True,
                         env=os.environ | {'BEARCLF_CACHE': str(path/'cache')})
    assert p.stdout.readline() == 'ready\n'
    return p


def finish(p):
    assert p.stdout.read() == 'done\n' and p.wait() == 0


def contents(folder):
    "Every file with its bytes; of the two tables, all but the column `when`"
    res = {}
    for o in sorted(folder.rglob('*')):
        if o.suffix == '.csv': res[o.name] = [{k: v for k, v in r.items() if k != 'when'} for r in csv.DictReader(o.open(encoding='utf-8'))]
        elif o.is_file(): res[o.relative_to(folder).as_posix()] = o.read_bytes()
    return res


def at_hand(web, path, monkeypatch):
    "The addresses whose photo is complete: in the cache, or in its place"
    monkeypatch.setenv('BEARCLF_CACHE', str(path/'cache'))
    pantry = _Pantry(path/'bears')
    cached = {a.address for kind in ('black', 'grizzly', 'teddy') for a in web.addresses(kind)
              if pantry.file(a.address, '.raw').exists() or pantry.file(a.address, '.json').exists()}
    manifest = path/'bears/manifest.csv'
    rows = csv.DictReader(manifest.open(encoding='utf-8')) if manifest.exists() else []
    return cached | {r['address'] for r in rows}


@pytest.fixture(scope='module')
def undisturbed(web, tmp_path_factory):
    "What a run that nobody kills leaves, and how long it takes"
    path = tmp_path_factory.mktemp('undisturbed')
    p, t = start(web, path), time.monotonic()
    finish(p)
    return contents(path/'bears'), time.monotonic() - t


@pytest.mark.parametrize('seed', range(20))
def test_killed_at_a_random_moment(seed, web, undisturbed, tmp_path, monkeypatch):
    wanted, seconds = undisturbed
    assert len(wanted) > 40 and len(wanted['manifest.csv']) == len(wanted) - 2
    p = start(web, tmp_path)
    time.sleep(random.Random(seed).uniform(0, seconds))
    p.kill()
    p.wait()
    before = at_hand(web, tmp_path, monkeypatch)
    web.log.clear()
    finish(start(web, tmp_path))
    again = {f'http://{o.host}{o.path}' for o in web.log} & before
    assert again == set()
    assert contents(tmp_path/'bears') == wanted
    assert not list((tmp_path/'cache/fetched').rglob('.*')), 'something half written was left'
