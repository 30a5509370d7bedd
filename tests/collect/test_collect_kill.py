"`kill -9` of collect at random moments: the next run ends in the same folder, and fetches nothing twice"
import csv, os, random, time

import pytest

from helpers import LONG, seeds
from bearclf.collect.fetch import Pantry
from bearclf.practice.web import practice_web

CLASSES = {'black': 'black bear', 'grizzly': 'grizzly bear', 'teddy': 'teddy bear'}
FAULTS = dict(dead=2, html=2, truncated=2, same=3, sizes=2, once500=3, webp=2, exif=2)  # none that depends on time


@pytest.fixture(scope='module')
def web():
    with practice_web(n=24, size=96, latency=.02, faults=FAULTS) as web: yield web.prepare()


def collecting(path, reach, hosts):
    from bearclf.collect.collect import collect
    collect(CLASSES, path/'bears', 16, allow_hosts=hosts, timeout=LONG, patience=LONG, wait=.05, **reach)


@pytest.fixture(scope='module')
def start(web, child):
    "A process that collects into `path`"
    return lambda path: child(collecting, path, web.reach, web.hosts,
                              env=os.environ | {'BEARCLF_CACHE': str(path/'cache')})


def contents(folder):
    "Every file with its bytes; of the two tables, all but the column `when`"
    res = {}
    for o in sorted(folder.rglob('*')):
        if o.suffix == '.csv':
            res[o.name] = [{k: v for k, v in r.items() if k != 'when'}
                           for r in csv.DictReader(o.open(encoding='utf-8'))]
        elif o.is_file(): res[o.relative_to(folder).as_posix()] = o.read_bytes()
    return res


def at_hand(web, path, monkeypatch):
    "The addresses whose photo is complete: in the cache, or in its place"
    monkeypatch.setenv('BEARCLF_CACHE', str(path/'cache'))
    pantry = Pantry(path/'bears')
    cached = {a.address for kind in CLASSES for a in web.addresses(kind)
              if pantry.file(a.address, '.raw').exists() or pantry.file(a.address, '.json').exists()}
    manifest = path/'bears/manifest.csv'
    rows = csv.DictReader(manifest.open(encoding='utf-8')) if manifest.exists() else []
    return cached | {r['address'] for r in rows}


@pytest.fixture(scope='module')
def undisturbed(web, start, tmp_path_factory):
    "What a run that nobody kills leaves, and how many requests it makes"
    path = tmp_path_factory.mktemp('undisturbed')
    web.log.clear()
    res = start(path).finish()
    assert res.returncode == 0, res.stderr
    return contents(path/'bears'), len(web.log)


@pytest.mark.parametrize('seed', seeds(20))
def test_killed_at_a_random_moment(seed, web, start, undisturbed, tmp_path, monkeypatch):
    wanted, n = undisturbed
    assert len(wanted) > 40 and len(wanted['manifest.csv']) == len(wanted) - 2
    web.log.clear()
    kill_at, run = random.Random(seed).randrange(n), start(tmp_path)
    while len(web.log) < kill_at and run.process.is_alive(): time.sleep(.001)
    run.kill()
    before = at_hand(web, tmp_path, monkeypatch)
    web.log.clear()
    assert start(tmp_path).finish().returncode == 0
    again = {f'http://{o.host}{o.path}' for o in web.log} & before
    assert again == set()
    now = contents(tmp_path/'bears')
    assert [o for o in sorted(now.keys() | wanted.keys()) if now.get(o) != wanted.get(o)] == []
    assert not list((tmp_path/'cache/fetched').rglob('.*')), 'something half written was left'
