"What sites, disks and strangers do to a collection, and that its folder and its tables are right all the same"
import _thread, asyncio, csv, errno, hashlib, io, re, shutil, signal, socket, threading, time, tracemalloc
import unicodedata, zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest, requests
from PIL import Image, ImageFile, features

from helpers import LONG, small_disk
from bearclf import core, photo
from bearclf.collect import collect as download, fetch, search
from bearclf.practice import web as practice
from bearclf.core import BearclfError
from bearclf.collect.fetch import *
from bearclf.collect.collect import *
from bearclf.collect.fetch import Photo, _is_public
from bearclf.collect.collect import LEFT_OUT, MANIFEST
from bearclf.practice.web import PracticeWeb, practice_web
from bearclf.folder.copies import hash_distance, perceptual_hash
from bearclf.collect.search import USER_AGENT, ImageResult, search_engine

pytestmark = pytest.mark.filterwarnings('ignore::PIL.Image.DecompressionBombWarning')
CLASSES = {'black': 'black bear', 'grizzly': 'grizzly bear', 'teddy': 'teddy bear'}


@pytest.fixture(scope='module')
def web():
    with practice_web(n=60, size=64, sites=40) as web: yield web


@pytest.fixture(scope='module')
def copies():
    with practice_web(n=16, size=128, faults=dict(sizes=4, same=4)) as web: yield web


def clean(monkeypatch, cache):
    monkeypatch.setenv('BEARCLF_CACHE', str(cache))
    for o in 'http_proxy', 'https_proxy', 'all_proxy', 'no_proxy', 'DDGS_PROXY':
        for k in o, o.upper(): monkeypatch.delenv(k, raising=False)
    monkeypatch.setattr(search, 'ENGINES', dict(search.ENGINES))
    monkeypatch.setattr(search, '_next', {})


@pytest.fixture(autouse=True)
def fresh(web, tmp_path, monkeypatch):
    "A cache of its own for each test, and no proxy of this machine's"
    clean(monkeypatch, tmp_path/'cache')
    web.engine_faults.clear()
    web._seen.clear()
    web.log.clear()


@pytest.fixture
def fault(monkeypatch):
    "Adds a fault of one's own to the practice web; the addresses `/fault/own/...` have it"
    def add(f): monkeypatch.setitem(practice.FAULTS, 'own', f)
    return add


def finds(addresses, name='planned', **facts):
    "An engine that finds these addresses"
    def f(term, page, safe, web): return [ImageResult(o, **facts) for o in addresses] if page == 1 else []
    f.__name__ = name
    search_engine(f)
    return name


def gather(web, dest, addresses, n=None, classes=('teddy',), **kw):
    "`collect` of these addresses, in their order"
    addresses = [addresses] if isinstance(addresses, str) else list(addresses)
    kw = dict(allow_hosts=web.hosts, cache_days=0) | kw
    return collect({o: 'teddy bear' for o in classes}, dest, n or len(addresses), engine=finds(addresses), **kw)


def good(web, i, site=0): return f'{web.sites[site]}/good/teddy/{i}.jpg'
def faulty(web, name, i=0, site=0): return f'{web.sites[site]}/fault/{name}/teddy-{i}.jpg'
def planted(web, fault, kind='teddy'): return [a.address for a in web.addresses(kind) if a.fault == fault]
def rows(dest, name='manifest.csv'): return list(csv.DictReader((dest/name).open(encoding='utf-8')))
def reasons(dest): return [o['reason'] for o in rows(dest, 'left_out.csv')]
def photos(dest):
    return sorted(o.relative_to(dest).as_posix() for o in dest.rglob('*') if o.is_file() and o.suffix != '.csv')
def asked(web): return [f'http://{o.host}{o.path}' for o in web.log]


def whole(dest):
    "One row for each photo, its bytes as the row says, and nothing half written"
    for o in rows(dest): assert hashlib.sha256((dest/o['file']).read_bytes()).hexdigest() == o['sha256']
    files = [o['file'] for o in rows(dest)]
    assert sorted(files) == photos(dest) and len(files) == len(set(files))
    for o in dest, core.cache_dir(): assert not [p for p in o.rglob('.*')]
    return len(files)


# What sites do. Every fault at a site of its own, all in one run but for those that never come to an end;
# the tests look at what became of each

LIMIT, ENDLESS = dict(timeout=1, patience=2), ('stalled', 'slow')
BAD = dict(dead=('not there (404)', 1, False), forbidden=('refused (403)', 1, False), always429=('busy (429)', 3, True),
           stalled=('no answer in 1 s', 1, True),
           slow=('not there after 2 s', 1, True), cut=('cut short', 3, True),
           truncated=('damaged or cut short', 1, False), html=('a web page, not an image', 1, False),
           bomb=('too large to open safely', 1, False), huge=('larger than 30 MB', 1, False),
           huge_declared=('larger than 30 MB', 1, False),
           gzip_bomb=('larger than 30 MB', 1, False), redirect_private=('leads into a private network', 1, False),
           redirect_file=('not an address of the web', 1, False), redirect_loop=('redirected too often', 6, False),
           busy_long=('busy (503)', 1, True), refused=('not reached', 0, True))
FINE = dict(once500=2, once429=2, redirect=2, path=1, webp=1, avif=1, gif=1, png=1, exif=1)


async def busy_long(web, req, a): return await practice.reply(req, b'', 'text/plain', 503, retry_after=11)


@pytest.fixture(scope='module')
def outcome(web, tmp_path_factory):
    "What two runs make of an address with each fault"
    path = tmp_path_factory.mktemp('faults')
    with pytest.MonkeyPatch.context() as mp:
        clean(mp, path/'cache')
        mp.setitem(practice.FAULTS, 'busy_long', busy_long)
        loaded, load = [], ImageFile.ImageFile.load
        mp.setattr(ImageFile.ImageFile, 'load', lambda self: loaded.append(self.size) or load(self))
        address = {o: faulty(web, o, i, i) for i, o in enumerate([*BAD, *FINE]) if o != 'avif'
                   or features.check('avif')}
        address['refused'] = f'http://127.0.0.1:{web._nobody.getsockname()[1]}/x.jpg'
        for o in 'bomb', 'gzip_bomb':
            requests.get(faulty(web, o), stream=True).close()  # they are made once, which takes a moment
        web._seen.clear(); web.log.clear()
        def run():
            gather(web, path/'bears', [address[o] for o in ENDLESS], n=99, **LIMIT)
            return gather(web, path/'bears', [v for k, v in address.items() if k not in ENDLESS], n=99)
        res, log = run(), list(web.log)
        web.log.clear()
        run()
    kept = {o['address']: o for o in rows(path/'bears')}
    out = {o['address']: o for o in rows(path/'bears', 'left_out.csv')}
    of = lambda log, a: [o for o in log if a.startswith(f'http://{o.host}/') and o.path.startswith('/fault/')]
    return SimpleNamespace(path=path, dest=path/'bears', address=address, log=log, again=list(web.log),
                           kept=kept, out=out, loaded=loaded, res=res,
                           visits={k: of(log, a) for k, a in address.items()},
                           later={k: of(web.log, a) for k, a in address.items()})


@pytest.mark.parametrize('fault', BAD)
def test_what_gives_no_photo(outcome, fault):
    reason, times, again = BAD[fault]
    address = outcome.address[fault]
    assert address not in outcome.kept
    assert outcome.out[address]['reason'] == reason and reason in outcome.res.table.index.str.removeprefix('- ')
    assert len(outcome.visits[fault]) == times
    assert bool(outcome.out[address]['try_again']) == again
    if fault != 'refused': assert bool(outcome.later[fault]) == again


@pytest.mark.parametrize('fault', FINE)
def test_what_gives_one_in_the_end(outcome, fault):
    if fault not in outcome.address: pytest.skip('this Pillow has no AVIF')
    assert (outcome.dest/outcome.kept[outcome.address[fault]]['file']).exists()
    assert len(outcome.visits[fault]) == FINE[fault] - (fault == 'redirect') and not outcome.later[fault]


def test_what_is_tried_twice_has_one_row(outcome):
    assert len(rows(outcome.dest, 'left_out.csv')) == len(outcome.out) and whole(outcome.dest) == len(outcome.kept)


def test_waits_before_it_asks_again(outcome):
    times = lambda fault: [o.when for o in outcome.visits[fault]]
    a, b = times('once429')
    assert 1 <= b - a  # as the site said
    a, b = times('once500')
    assert .5 <= b - a
    a, b, c = times('always429')
    assert .5 <= b - a and 1 <= c - b


def test_a_busy_site_is_left_in_peace_by_all_who_want_something_there(web, tmp_path):
    addresses = [faulty(web, 'once429', 1)] + [good(web, i) for i in range(2, 12)]
    gather(web, tmp_path/'bears', addresses, per_host=1)
    at = [o.status for o in web.log].index(429)
    assert len(web.log) == 12 and web.log[at+1].when - web.log[at].when >= 1


def test_hangs_up_on_what_is_too_large(outcome):
    declared, undeclared, packed = (outcome.visits[o][0] for o in ('huge_declared', 'huge', 'gzip_bomb'))
    assert not declared.complete and declared.n_bytes < 15e6  # what stands in the buffers on the way
    assert not undeclared.complete and 29e6 < undeclared.n_bytes < 60e6


def test_a_packed_bomb_takes_little_memory(web, tmp_path):
    requests.get(faulty(web, 'gzip_bomb'), stream=True).close()  # the practice web makes it now
    tracemalloc.start()
    gather(web, tmp_path/'bears', faulty(web, 'gzip_bomb'), max_mb=5)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert reasons(tmp_path/'bears') == ['larger than 5 MB'] and peak < 60e6


def test_a_huge_picture_is_refused_before_it_is_decoded(web, tmp_path, fault, outcome, monkeypatch):
    assert not [o for o in outcome.loaded if o[0] > 1000]
    loaded = []
    monkeypatch.setattr(ImageFile.ImageFile, 'load', lambda self: loaded.append(self.size))
    async def large(web, req, a):
        return await practice.reply(req, await web.made('large', lambda: practice.bomb_png(12_500)), 'image/png')
    fault(large)  # larger than our limit, smaller than Pillow's
    gather(web, tmp_path/'bears', faulty(web, 'own'))
    assert reasons(tmp_path/'bears') == ['too large to open safely'] and loaded == []


def test_names_are_the_hash_and_suffixes_are_true(outcome):
    of = lambda fault: outcome.dest/outcome.kept[outcome.address[fault]]['file']
    for o in FINE:
        if o in outcome.address:
            file = of(o)
            assert file.parent == outcome.dest/'teddy'
            assert file.stem == hashlib.sha256(file.read_bytes()).hexdigest()[:12]
            assert file.suffix == f'.{o}' if o in ('webp', 'avif', 'gif', 'png') else '.jpg'
            with Image.open(file) as im:
                assert im.format == {'.jpg': 'JPEG'}.get(file.suffix, file.suffix[1:].upper()) and im.size == (64, 64)
    assert not list(outcome.path.rglob('x.jpg')) and {o.name for o in outcome.path.iterdir()} == {'bears', 'cache'}
    assert {o.name for o in outcome.dest.iterdir()} == {'teddy', 'manifest.csv', 'left_out.csv'}


def test_an_animation_is_one_picture(outcome):
    assert photo.read_photo(outcome.dest/outcome.kept[outcome.address['gif']]['file']).size == (64, 64)


def test_where_a_photo_was_taken_is_gone_and_it_stands_upright(web, outcome):
    data = (outcome.dest/outcome.kept[outcome.address['exif']]['file']).read_bytes()
    raw = requests.get(outcome.address['exif']).content
    secrets = (b'Exif', b'Practice Phone', b'GPSLatitude', b'xmpmeta', b'Photoshop', b'Masha', b'Moscow', b'My bear',
               b'at home')
    assert all(o in raw for o in secrets) and not [o for o in secrets if o in data]
    plain = requests.get(good(web, int(re.search(r'-(\d+)\.', outcome.address['exif'])[1]))).content
    hashes = [perceptual_hash(photo.read_photo(o)) for o in (data, plain)]
    assert hash_distance(*hashes) < 60
    assert hash_distance(hashes[0], perceptual_hash(photo.read_photo(plain).rotate(90))) > 75


@pytest.mark.parametrize('form', ['JPEG', 'PNG', 'WEBP', 'GIF'])
def test_an_upright_photo_loses_them_too(web, tmp_path, fault, form):
    from PIL.PngImagePlugin import PngInfo
    im, exif, texts = practice.draw_bear('teddy', 'private', 64), Image.Exif(), PngInfo()
    exif[0x010f] = 'Practice Phone'
    texts.add_text('Author', 'Masha')
    kw = dict(JPEG=dict(exif=exif, xmp=practice.XMP, comment=b'at home', extra=practice.iptc(byline='Masha')),
              PNG=dict(exif=exif, pnginfo=texts),
              WEBP=dict(exif=exif.tobytes(), xmp=practice.XMP), GIF=dict(comment=b'at home'))[form]
    secrets = [o for o in (b'Practice Phone', b'Masha', b'GPSLatitude', b'at home')
               if o in (raw := practice.saved(im, form, **kw))]
    async def private(web, req, a): return await practice.reply(req, raw)
    fault(private)
    gather(web, tmp_path/'bears', faulty(web, 'own'))
    data = (tmp_path/'bears'/rows(tmp_path/'bears')[0]['file']).read_bytes()
    assert len(secrets) == dict(JPEG=4, PNG=2, WEBP=2, GIF=1)[form] and not [o for o in secrets if o in data]


def test_nobody_inside_was_asked(outcome): assert not [o for o in outcome.log + outcome.again if 'inside' in o.path]
def test_the_honest_user_agent(outcome): assert {o.user_agent for o in outcome.log} == {USER_AGENT}


RUBBISH = [b'hello\r\n\r\n', b'', b'HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello',
           b'HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello',
           b'HTTP/1.1 200 OK\r\nX: ' + b'x'*100_000,
           b'HTTP/1.1 302 Found\r\nLocation: http://[::1/\r\nContent-Length: 0\r\n\r\n',
           b'HTTP/1.1 302 Found\r\nLocation: //\xff\xfe\r\nContent-Length: 0\r\n\r\n',
           b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n',
           b'HTTP/1.1 304 Not Modified\r\n\r\n', b'HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n',
           b'HTTP/1.1 204 No Content\r\n\r\n']

def test_whatever_a_site_says_the_run_goes_on(web, tmp_path, fault):
    async def rubbish(web, req, a):
        req.transport.write(RUBBISH[a.photo])
        req.transport.close()
        return practice.Response()  # which nobody gets any more
    fault(rubbish)
    gather(web, tmp_path/'bears', [*[faulty(web, 'own', i, i) for i in range(len(RUBBISH))], good(web, 50)])
    assert [o['address'] for o in rows(tmp_path/'bears')] == [good(web, 50)]
    assert len(reasons(tmp_path/'bears')) == len(RUBBISH)


def cut_out(data, start, n): return data[:start] + bytes(n) + data[start+n:]

@pytest.mark.parametrize('form', ['jpeg', 'png', 'webp', 'gif', 'avif', 'TIFF'])
def test_a_damaged_photo_of_any_form_is_left_out(web, tmp_path, fault, form):
    if form == 'avif' and not features.check('avif'): pytest.skip('this Pillow has no AVIF')
    im = practice.draw_bear('teddy', 'damaged', 64)
    data = practice.FORMS[form](im) if form in practice.FORMS else practice.saved(im, form)
    bad = {'avif': lambda: data.replace(b'pitm', b'none'), 'webp': lambda: cut_out(data, 20, 200),
           'gif': lambda: data[:len(data)//8]}.get(form, lambda: data[:len(data)//2])()
    async def damaged(web, req, a): return await practice.reply(req, bad)
    fault(damaged)
    gather(web, tmp_path/'bears', [faulty(web, 'own'), good(web, 1)])
    assert [o['address'] for o in rows(tmp_path/'bears')] == [good(web, 1)]
    assert reasons(tmp_path/'bears') == ['damaged or cut short']


# Addresses that lead inside

FORMS = ['127.0.0.1', 'localhost', 'LOCALHOST', '127.1', '2130706433', '0x7f000001', '0x7f.1', '017700000001',
         '0.0.0.0', '[::ffff:127.0.0.1]', '[::ffff:7f00:1]', '[::1]',
         '127.0.0.1.', 'localhost.', '１２７.０.０.１']

@pytest.mark.parametrize('proxied', [False, True])
def test_a_host_that_is_not_allowed_is_not_asked(web, tmp_path, proxied):
    addresses = [f'http://{o}:{web.ports[0]}/good/teddy/{i}.jpg'
                 for i, o in enumerate(FORMS)] + [f'http://me:secret@127.0.0.1:{web.ports[0]}/good/teddy/50.jpg']
    res = gather(web, tmp_path/'bears', addresses, allow_hosts=(), **dict(proxy=web.reach['proxy']) if proxied else {})
    assert web.log == []
    known = {o['address']: o['reason'] for o in rows(tmp_path/'bears', 'left_out.csv')}
    assert len(known) == len(FORMS) + 1 and len(res.across) == 0
    assert {known[addresses[i]] for i in (0, 1, 2, 5, 6, 8, 9, 10, 11, 14)} == {'leads into a private network'}
    assert set(known.values()) <= {'leads into a private network', 'not an address of the web', 'not reached'}


def test_a_proxy_that_the_system_names_leads_not_inside_either(web, tmp_path, monkeypatch):
    monkeypatch.setenv('http_proxy', web.reach['proxy'])
    requests.get(good(web, 1))
    assert len(web.log) == 1, 'the proxy would have fetched it'
    web.log.clear()
    gather(web, tmp_path/'bears', [good(web, 1), 'http://no-such-host.invalid/x.jpg'], allow_hosts=())
    assert sorted(reasons(tmp_path/'bears')) == ['leads into a private network', 'refused (403)']
    assert asked(web) == ['http://no-such-host.invalid/x.jpg']


def test_a_redirect_is_checked_behind_a_proxy(web, tmp_path, fault):
    async def away(web, req, a): return await practice.sent_to(req, good(web, 3).replace('127.0.0.1', 'localhost'))
    fault(away)
    gather(web, tmp_path/'bears', faulty(web, 'own'), proxy=web.reach['proxy'])
    assert reasons(tmp_path/'bears') == ['leads into a private network'] and len(web.log) == 1


def test_a_name_that_means_something_else_at_the_second_look(web, tmp_path, monkeypatch):
    "Public first, private then; whoever looks only beforehand asks the private one"
    looks, really = [], socket.getaddrinfo
    def look(host, port, *args, **kw):
        if host != 'rebind.example': return really(host, port, *args, **kw)
        looks.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, '', ('8.8.8.8' if len(looks) == 1 else '127.0.0.1', port or 0))]
    async def connect(self, sock, address):
        assert address[0] == '8.8.8.8' or address[0].startswith('127.')
        if address[0] == '8.8.8.8': raise OSError(errno.ENETUNREACH, 'nothing leaves this machine in a test')
        return await connected(self, sock, address)
    connected = asyncio.SelectorEventLoop.sock_connect
    monkeypatch.setattr(socket, 'getaddrinfo', look)
    monkeypatch.setattr(asyncio.SelectorEventLoop, 'sock_connect', connect)
    for _ in range(2): gather(web, tmp_path/'bears', f'http://rebind.example:{web.ports[0]}/good/teddy/1.jpg')
    assert reasons(tmp_path/'bears') == ['leads into a private network'] and web.log == [] and len(looks) > 1


@pytest.mark.parametrize('ip', '10.0.0.1 172.16.3.4 192.168.1.1 169.254.169.254 100.64.0.1 127.8.8.8 0.0.0.0 '
                               '224.0.0.1 255.255.255.255 ::1 :: fe80::1 fe80::1%eth0 fd00::1 '
                         'ff02::1 ::ffff:10.0.0.1 ::ffff:127.0.0.1 2002:7f00:1:: 2002:c0a8:101:: 64:ff9b::7f00:1 '
                         '64:ff9b::a00:1'.split())
def test_private_in_every_spelling(ip): assert not _is_public(ip)


def test_public_addresses():
    assert all(_is_public(o) for o in ('8.8.8.8', '93.184.216.34', '2606:4700::1111', '64:ff9b::808:808'))


@pytest.mark.parametrize('address', ['file:///etc/passwd', 'ftp://a.example/x.jpg', 'data:image/png;base64,AA',
                                     '/x.jpg', 'http://', 'http:///x.jpg', 'http://[::1/x.jpg',
                                     'http://a.example:99999/x.jpg', 'javascript:alert(1)', ''])
def test_what_is_no_address_of_the_web(web, tmp_path, address):
    gather(web, tmp_path/'bears', [address])
    assert reasons(tmp_path/'bears') == ['not an address of the web'] and web.log == []


# Politeness

@pytest.fixture(scope='module')
def slow_web():
    "Every answer takes .05 seconds, and the number of connections is counted"
    connections = []
    class Counting(PracticeWeb):
        async def _talk(self, reader, writer): connections.append(1); await PracticeWeb._talk(self, reader, writer)
    with Counting(n=45, size=64, sites=12, latency=.05) as web: web.connections = connections; yield web


@pytest.fixture
def together(fault):
    "The addresses `/fault/own/…` answer when `n` of them are asked at the same time, and not before"
    def add(n):
        barrier = []
        async def wait(web, req, a):
            if not barrier: barrier.append(asyncio.Barrier(n))
            await barrier[0].wait()
            return await practice.good(web, req, a)
        fault(wait)
    return add


@pytest.mark.parametrize('per_host', [1, 3])
def test_asks_one_site_for_so_many_at_a_time(slow_web, together, tmp_path, per_host):
    slow_web.log.clear(); slow_web.connections.clear(); together(per_host)
    gather(slow_web, tmp_path/'bears', [faulty(slow_web, 'own', i) for i in range(12)], per_host=per_host)
    assert max(o.active for o in slow_web.log) == per_host and len(slow_web.log) == 12
    assert len(slow_web.connections) <= per_host + 1, 'a connection serves more than one photo'


def test_asks_several_sites_at_the_same_time(slow_web, together, tmp_path):
    slow_web.log.clear(); together(12)
    gather(slow_web, tmp_path/'bears', [faulty(slow_web, 'own', i, i) for i in range(12)], per_host=1)
    assert len(slow_web.log) == whole(tmp_path/'bears') == 12


def test_redirects_to_one_site_count_there(slow_web, tmp_path, fault):
    async def away(web, req, a): return await practice.sent_to(req, good(web, a.photo))
    fault(away)
    slow_web.log.clear()
    gather(slow_web, tmp_path/'bears', [faulty(slow_web, 'own', i, i) for i in range(1, 12)], per_host=2)
    assert whole(tmp_path/'bears') == 11
    assert max(o.active for o in slow_web.log if '/good/' in o.path) <= 2


# Which photos are kept

def test_an_addresses_query_is_part_of_it(web, tmp_path):
    some = [a for a in web.addresses('teddy') if '?' in a.address or '%3F' in a.address]
    gather(web, tmp_path/'bears', [a.address for a in some])
    assert len({a.photo for a in some}) == len(some) == whole(tmp_path/'bears') > 15
    assert sorted(asked(web)) == sorted(a.address for a in some)


def test_the_same_photo_is_kept_once(copies, tmp_path):
    for fault, how in ('same', 'duplicate of teddy/'), ('sizes', 'near duplicate of teddy/'):
        dest, addresses = tmp_path/fault, planted(copies, fault)
        gather(copies, dest, addresses)
        firsts = {a.photo: a.address for a in reversed(copies.addresses('teddy')) if a.fault == fault}
        assert {o['address'] for o in rows(dest)} == set(firsts.values()) and whole(dest) == 4
        assert len(reasons(dest)) == len(addresses) - 4 and all(o.startswith(how) for o in reasons(dest))


def test_the_order_of_results_decides_and_not_the_order_of_arrival(web, tmp_path, fault):
    async def late(web, req, a): await asyncio.sleep(.4); return await practice.good(web, req, a)
    fault(late)
    gather(web, tmp_path/'bears', [faulty(web, 'own', 1), good(web, 1), good(web, 2)], n=2)
    assert [o['address'] for o in rows(tmp_path/'bears')] == [faulty(web, 'own', 1), good(web, 2)]


def test_photos_in_two_classes_are_reported_and_kept(web, tmp_path):
    res = gather(web, tmp_path/'bears', [good(web, 1), good(web, 2)], classes=('brown', 'teddy'))
    assert whole(tmp_path/'bears') == 4 and len(res.across) == 2
    assert all(a.startswith('brown/') and b.startswith('teddy/') for a, b in res.across)
    assert [o for o in res.notes if 'Alike, but in different classes' in o] and len(web.log) == 2


def test_own_photos_count_and_are_not_collected_again(web, tmp_path):
    own = tmp_path/'bears/teddy/mine.png'
    own.parent.mkdir(parents=True)
    Image.open(io.BytesIO(requests.get(good(web, 3)).content)).resize((80, 80)).save(own)
    (own.parent/'notes.txt').write_text('no photo')
    data = own.read_bytes()
    res = gather(web, tmp_path/'bears', [good(web, i) for i in (3, 4, 5, 6)], n=3)
    assert [o['address'] for o in rows(tmp_path/'bears')] == [good(web, 4), good(web, 5)]
    assert reasons(tmp_path/'bears') == ['near duplicate of teddy/mine.png']
    assert own.read_bytes() == data and res.table.teddy['in the folder'] == 3


@pytest.mark.parametrize('moved', [False, True])
def test_a_photo_that_was_taken_away_does_not_come_back(copies, tmp_path, moved):
    some = [a for a in copies.addresses('teddy') if a.fault == 'sizes']
    large, *small = [a.address for a in sorted(some, key=lambda a: -a.side) if a.photo == some[0].photo]
    dest = tmp_path/'bears'
    gather(copies, dest, [good(copies, 12), large], n=2)
    file = dest/rows(dest)[1]['file']
    (dest/'other').mkdir()
    file.rename(dest/'other'/file.name) if moved else file.unlink()
    copies.log.clear()
    res = gather(copies, dest, [good(copies, 12), large, *small, good(copies, 13)], n=2)
    assert large not in asked(copies) and not file.exists() and res.table.teddy['in the folder'] == 2
    assert [o['address'] for o in rows(dest)] == [good(copies, 12), large, good(copies, 13)]
    assert reasons(dest) == ['near duplicate of a photo that you removed']*2
    copies.log.clear()
    assert gather(copies, dest, [good(copies, 12), large, *small, good(copies, 13)],
                  n=2).table.teddy['in the folder'] == 2
    assert asked(copies) == []


# Classes, numbers, tables

@pytest.fixture(scope='module')
def everyday():
    with practice_web(n=30, size=64, faults=dict(dead=2, html=1, truncated=1, same=2, sizes=2, once500=1,
                                                 exif=2, webp=1)) as web:
        yield web


@pytest.fixture(scope='module')
def bears(everyday, tmp_path_factory):
    "Twenty photos of each class, with the engines' own results, and the log of that"
    path = tmp_path_factory.mktemp('everyday')
    with pytest.MonkeyPatch.context() as mp:
        clean(mp, path/'cache')
        everyday.log.clear()
        res = collect(CLASSES, path/'bears', 20, allow_hosts=everyday.hosts, wait=.02, **everyday.reach)
        log = list(everyday.log)
        everyday.log.clear()
        again = collect(CLASSES, path/'bears', 20, allow_hosts=everyday.hosts, wait=.02, **everyday.reach)
        for o in path/'bears', path/'cache/fetched': assert not list(o.rglob('.*'))
    return SimpleNamespace(path=path/'bears', res=res, log=log, again=again, later=list(everyday.log),
                           cache=path/'cache')


def test_as_many_as_wanted(bears):
    assert list(bears.res.table.loc['in the folder']) == [20]*3 and len(photos(bears.path)) == 60
    assert not [o for o in bears.res.notes if 'Fewer' in o]


def test_the_second_run_asks_nobody(bears): assert bears.later == [] and bears.again.table.equals(bears.res.table)


def test_fewer_than_wanted_is_said(everyday, tmp_path):
    res = collect({'teddy': 'teddy bear'}, tmp_path/'bears', 99, allow_hosts=everyday.hosts, wait=.02, **everyday.reach)
    n = len(everyday.obtainable('teddy'))
    assert res.table.teddy['in the folder'] == whole(tmp_path/'bears') == n == 26
    assert f'Fewer than you asked for: teddy {n}. Other words may find more.' in res.notes


def test_the_manifest_has_a_row_for_each_photo(everyday, bears):
    table = rows(bears.path)
    assert tuple(table[0]) == MANIFEST and sorted(o['file'] for o in table) == photos(bears.path)
    for o in table:
        file = bears.path/o['file']
        assert o['class'] == file.parent.name and o['term'] == CLASSES[o['class']]
        assert int(o['size']) == file.stat().st_size
        assert hash_distance(o['perceptual_hash'], perceptual_hash(photo.read_photo(file))) < 40
        assert Image.open(file).size == (int(o['width']), int(o['height']))
        assert re.fullmatch(r'\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00', o['when'])
        assert o['address'] in {a.address for a in everyday.addresses(o['class'])} and o['page'] and o['title']
    assert {o['licence'] == 'unknown' for o in table if o['engine'] in ('duckduckgo', 'bing')} == {True}
    assert all(o['licence'] != 'unknown' and o['creator'] and o['attribution'] for o in table
               if o['engine'] in ('openverse', 'commons'))
    assert len({o['engine'] for o in table}) > 2
    assert tuple(rows(bears.path, 'left_out.csv')[0]) == LEFT_OUT


def test_every_result_is_accounted_for(bears):
    for kind in CLASSES:
        t = bears.res.table[kind]
        listed = [o for n in ('manifest.csv', 'left_out.csv') for o in rows(bears.path, n) if o['class'] == kind]
        assert t['found'] == t['kept'] + sum(t[o] for o in t.index if o.startswith('- ')) == len(listed)


def test_who_asks_says_so(bears):
    services = 'openverse.org', 'wikimedia.org'
    assert {o.user_agent for o in bears.log if any(s in o.host for s in services) and o.path} == {USER_AGENT}
    assert {o.user_agent for o in bears.log if o.host.startswith('127.')} == {USER_AGENT}


def test_an_engine_that_refuses_is_said(everyday, tmp_path):
    everyday.engine_faults['openverse'] = ['403']*3
    res = collect({'teddy': 'teddy bear'}, tmp_path/'bears', 5, allow_hosts=everyday.hosts, wait=.02, **everyday.reach)
    assert 'teddy: openverse: refused with status 403' in res.notes and whole(tmp_path/'bears') == 5


def test_more_photos_later(web, tmp_path):
    addresses = [good(web, i) for i in range(9)]
    gather(web, tmp_path/'bears', addresses, n=3)
    spare = {o for o in addresses if fetch.Pantry(tmp_path/'bears').file(o, '.json').exists()}
    kept = {o['address'] for o in rows(tmp_path/'bears')}
    assert len(kept) == 3 and spare  # some were fetched already, to spare
    web.log.clear()
    gather(web, tmp_path/'bears', addresses, n=8)
    assert not set(asked(web)) & (spare | kept) and whole(tmp_path/'bears') == 8


@pytest.mark.parametrize('name', ['a/b', 'a\\b', '..', '.', '.x', 'x.', 'x ', '', 'CON?', 'a:b', 'a*',
                                  'a\0b', 'CON', 'aux.1', 'кот'*50, '\ud800', 3])
def test_names_that_no_folder_can_have(web, tmp_path, name):
    with pytest.raises(BearclfError, match='cannot be the name of a folder|is no name of a class'):
        collect({name: 'bear'}, tmp_path/'bears', 1, engine=finds([good(web, 1)]))
    assert not (tmp_path/'bears').exists() and web.log == []


@pytest.mark.parametrize('names', [('Bear', 'bear'), ('Мишка', 'мишка'), ('й', 'и\u0306')])
def test_two_classes_in_one_folder(tmp_path, names):
    with pytest.raises(BearclfError, match='into one folder'):
        collect(dict.fromkeys(names, 'bear'), tmp_path/'bears', 1, engine=finds([]))


@pytest.mark.parametrize('call, says', [(dict(classes={}), 'Name the classes'), (dict(classes=7), 'Name the classes'),
                                        (dict(n=0), 'n=0 is no number'), (dict(n='5'), "n='5'"),
                                        (dict(classes={'a': ''}), 'Say what to look for'),
                                        (dict(engine='bingg'), 'Did you mean bing')])
def test_what_nobody_can_collect(tmp_path, call, says):
    with pytest.raises(BearclfError, match=re.escape(says)):
        collect(**dict(classes={'a': 'bear'}, dest=tmp_path/'bears', engine='bing') | call)
    assert not (tmp_path/'bears').exists()


def test_classes_in_cyrillic(web, tmp_path):
    names = 'плюшевый мишка', 'й', unicodedata.normalize('NFD', 'ёж')
    for _ in range(2): res = gather(web, tmp_path/'медведи', [good(web, 1), good(web, 2)], classes=names)
    assert whole(tmp_path/'медведи') == 6 and len(web.log) == 2 and list(res.table) == ['плюшевый мишка', 'й', 'ёж']
    assert {o['class'] for o in rows(tmp_path/'медведи')} == set(res.table)


# Files that are not as they should be

@pytest.mark.parametrize('cut', [1, 40, 'within a letter'])
def test_a_last_line_that_was_torn(web, tmp_path, cut):
    dest, addresses = tmp_path/'bears', [good(web, i) for i in range(4)]
    collect({'мишка': 'мишка'}, dest, 3, engine=finds(addresses), allow_hosts=web.hosts, cache_days=0)
    data = (dest/'manifest.csv').read_bytes()
    last = data[data[:-1].rfind(b'\n')+1:]
    torn = last[:2*len('миш')-1] if cut == 'within a letter' else last[:-cut]
    (dest/'manifest.csv').write_bytes(data[:-len(last)] + torn)
    collect({'мишка': 'мишка'}, dest, 3, engine=finds(addresses), allow_hosts=web.hosts, cache_days=0)
    assert whole(dest) == 3 and [o['address'] for o in rows(dest)] == addresses[:3]


@pytest.mark.parametrize('data', ['name,label\na.jpg,teddy\n', 'name,label\n', 'name,label', 'name,label\na.jpg,teddy',
                                  'my notes', b'\x89PNG\r\n\x1a\n\0\0',
                                  'file;class;address\na;b;c\n'])
def test_a_manifest_that_is_somebody_elses(web, tmp_path, data):
    file, data = tmp_path/'bears/manifest.csv', data if isinstance(data, bytes) else data.encode()
    file.parent.mkdir()
    file.write_bytes(data)
    with pytest.raises(BearclfError, match='is not a table that collect wrote'): gather(web, file.parent, good(web, 1))
    assert file.read_bytes() == data and web.log == []


def test_a_manifest_that_went_through_a_spreadsheet(web, tmp_path):
    dest = tmp_path/'bears'
    gather(web, dest, [good(web, 1), good(web, 2)])
    text = (dest/'manifest.csv').read_text(encoding='utf-8')
    (dest/'manifest.csv').write_bytes(b'\xef\xbb\xbf' + text.replace('\n', '\r\n').encode())
    gather(web, dest, [good(web, 1), good(web, 2), good(web, 3)])
    assert whole(dest) == 3 and (dest/'manifest.csv').read_text(encoding='utf-8').startswith(text)


@pytest.mark.parametrize('after', [0, 1, 5, 11, 14])
def test_a_full_disk_is_one_sentence_and_the_next_run_completes(web, tmp_path, monkeypatch, after):
    dest, addresses, writes, write = tmp_path/'bears', [good(web, i, i) for i in range(8)], [], Path.write_bytes
    def full(self, data):
        writes.append(self)
        if len(writes) <= after: return write(self, data)
        write(self, data[:len(data)//2])
        raise OSError(errno.ENOSPC, 'No space left on device')
    with monkeypatch.context() as m:
        m.setattr(Path, 'write_bytes', full)
        with pytest.raises(BearclfError, match='The disk is full') as e: gather(web, dest, addresses)
    assert '\n' not in str(e.value) and str(dest) in str(e.value)
    for o in dest, tmp_path/'cache': assert not list(o.rglob('.*'))
    for o in photos(dest): photo.read_photo(dest/o)
    gather(web, dest, addresses)
    assert whole(dest) == 8 and [o['address'] for o in rows(dest)] == addresses


def test_a_disk_that_is_really_full(web, tmp_path):
    with small_disk(tmp_path/'disk', 64) as disk:
        with pytest.raises(BearclfError, match='The disk is full'):
            gather(web, disk/'bears', [good(web, i, i) for i in range(40)])
        assert not list(disk.rglob('.*'))
        for o in photos(disk/'bears'): photo.read_photo(disk/'bears'/o)
        shutil.copytree(disk/'bears', tmp_path/'bears')
    gather(web, tmp_path/'bears', [good(web, i, i) for i in range(40)])
    assert whole(tmp_path/'bears') == 40


def test_a_folder_that_cannot_be_one(web, tmp_path, monkeypatch):
    (tmp_path/'file').write_text('mine')
    with pytest.raises(BearclfError, match='is a file; name a folder'): gather(web, tmp_path/'file', good(web, 1))
    with pytest.raises(BearclfError, match='is a file|cannot be written'):
        gather(web, tmp_path/'file/bears', good(web, 1))
    (tmp_path/'bears').mkdir()
    (tmp_path/'bears/teddy').write_text('mine')
    with pytest.raises(BearclfError, match='is a file|cannot be written'): gather(web, tmp_path/'bears', good(web, 1))
    assert (tmp_path/'file').read_text() == (tmp_path/'bears/teddy').read_text() == 'mine' and web.log == []


def test_a_folder_that_cannot_be_written(web, tmp_path, monkeypatch):
    make = Path.mkdir
    def mkdir(self, *args, **kw):
        if self == tmp_path/'bears': raise PermissionError(errno.EACCES, 'Permission denied', str(self))
        return make(self, *args, **kw)
    monkeypatch.setattr(Path, 'mkdir', mkdir)
    with pytest.raises(BearclfError, match='bears cannot be written. Choose another folder'):
        gather(web, tmp_path/'bears', good(web, 1))


def test_two_at_once_in_one_folder(web, tmp_path):
    begun, go_on = threading.Event(), threading.Event()
    @search_engine
    def slow(term, page, safe, web_):
        begun.set()
        go_on.wait(LONG)
        return [ImageResult(good(web, 1))] if page == 1 else []
    first = threading.Thread(target=collect, args=({'teddy': 'bear'}, tmp_path/'bears', 1, 'slow'),
                             kwargs=dict(allow_hosts=web.hosts))
    first.start()
    assert begun.wait(LONG)
    with pytest.raises(BearclfError, match='Somebody is collecting into .*bears at this moment'):
        gather(web, tmp_path/'bears', good(web, 2))
    gather(web, tmp_path/'others', good(web, 2))
    go_on.set()
    first.join()
    assert whole(tmp_path/'bears') == 1
    gather(web, tmp_path/'bears', [good(web, 1), good(web, 2)])
    assert whole(tmp_path/'bears') == 2


def test_interrupted_in_the_middle(web, tmp_path, fault, monkeypatch):
    async def interrupt(web, req, a): _thread.interrupt_main(); return await practice.good(web, req, a)
    fault(interrupt)
    # a shell's background jobs begin with it switched off
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    prepare, bears, cache = fetch._prepared, tmp_path/'bears', tmp_path/'cache'
    addresses = [*[good(web, i, i) for i in range(6)], faulty(web, 'own', 6), *[good(web, i, i) for i in range(7, 20)]]
    with monkeypatch.context() as m:
        m.setattr(fetch, '_prepared', lambda data: time.sleep(.1) or prepare(data))
        with pytest.raises(KeyboardInterrupt, match='goes on from here'): gather(web, bears, addresses, n=20)
        files = {o for d in (bears, cache) for o in d.rglob('*')}
        time.sleep(.3)
    signal.signal(signal.SIGINT, before)
    assert {o for d in (bears, cache) for o in d.rglob('*')} == files, 'somebody is still writing'
    assert not [o for o in files if o.name.startswith('.')] and len(photos(bears)) < 20
    for o in photos(bears): photo.read_photo(bears/o)
    kept = {o['address'] for o in rows(bears)}
    web.log.clear()
    fault(practice.good)
    gather(web, bears, addresses, n=20)
    assert whole(bears) == 20 and not kept & set(asked(web))


# Bundles

@pytest.fixture
def packed(bears, tmp_path):
    return bundle(bears.path, tmp_path/'bears.zip')


def free(rows): return [o for o in rows if may_be_shared(o['licence'])]


def test_a_bundle_holds_what_may_be_passed_on(bears, packed, capsys):
    table = rows(bears.path)
    shared = free(table)
    assert 5 < len(shared) < len(table) and not [o for o in shared if o['licence'] == 'unknown']
    with zipfile.ZipFile(packed) as z:
        assert set(z.namelist()) == {'manifest.csv', 'ATTRIBUTION.txt'} | {o['file'] for o in shared}
        assert list(csv.DictReader(io.StringIO(z.read('manifest.csv').decode()))) == table
        said = z.read('ATTRIBUTION.txt').decode().splitlines()
    assert said == [f"{o['file']}: {o['attribution']}" for o in shared]
    with zipfile.ZipFile(bundle(bears.path, packed, everything=True)) as z: assert len(z.namelist()) == 62


@pytest.mark.parametrize('licence, may', [('CC BY-SA 4.0', True), ('CC0', True), ('CC0 1.0', True),
                                          ('Public domain', True), ('CC BY-NC-ND 2.0', True), ('unknown', False),
                                          ('', False), (None, False), ('All rights reserved', False),
                                          ('Fair use', False), ('not CC BY', False)])
def test_which_licences_may_be_passed_on(licence, may): assert may_be_shared(licence) == may


def test_from_a_bundle_only_what_it_does_not_hold_is_fetched(everyday, bears, packed, tmp_path):
    everyday.log.clear()
    collect(packed, tmp_path/'student', allow_hosts=everyday.hosts)
    assert photos(tmp_path/'student') == photos(bears.path) and whole(tmp_path/'student') == 60
    table = rows(bears.path)
    assert set(asked(everyday)) >= {o['address'] for o in table if o not in free(table)}
    assert not set(asked(everyday)) & {o['address'] for o in free(table)}
    same = lambda t: sorted((o['file'], o['address'], o['licence'], o['attribution'], o['sha256']) for o in t)
    assert same(rows(tmp_path/'student')) == same(table)


def test_removed_photos_are_in_no_bundle(web, tmp_path):
    gather(web, tmp_path/'bears', [good(web, 1), good(web, 2)])
    (tmp_path/'bears'/rows(tmp_path/'bears')[0]['file']).unlink()
    with zipfile.ZipFile(bundle(tmp_path/'bears', tmp_path/'b.zip', everything=True)) as z:
        assert len(z.namelist()) == 3 and len(z.read('manifest.csv').splitlines()) == 2


def test_an_address_that_shows_another_photo_by_now(web, tmp_path, fault):
    shown = [5]
    async def changing(web, req, a): return await practice.good(web, req, practice.replace(a, photo=shown[0], fault=''))
    fault(changing)
    gather(web, tmp_path/'bears', [good(web, 1), faulty(web, 'own', 2)])
    file = bundle(tmp_path/'bears', tmp_path/'b.zip')
    shown[0] = 6
    collect(file, tmp_path/'student', allow_hosts=web.hosts)
    assert [o['address'] for o in rows(tmp_path/'student')] == [good(web, 1)]
    assert reasons(tmp_path/'student') == ['another photo than when the bundle was made']


@pytest.fixture
def altered(web, tmp_path):
    "A bundle of one photo whose row, name or bytes are not what they were"
    def make(member=None, data=None, **row):
        gather(web, tmp_path/'source', good(web, 1))
        known, = rows(tmp_path/'source')
        data = (tmp_path/'source'/known['file']).read_bytes() if data is None else data
        row = known | row
        with zipfile.ZipFile(tmp_path/'b.zip', 'w', zipfile.ZIP_DEFLATED) as z:
            z.writestr('manifest.csv', core.table_text(MANIFEST, [[row[o] for o in MANIFEST]]))
            z.writestr(member or row['file'], data)
        web.log.clear()
        return tmp_path/'b.zip'
    return make


@pytest.mark.parametrize('name', ['../../x.jpg', '{}/x.jpg', 'teddy/../../x.jpg', 'C:\\x.jpg'])
def test_names_in_a_bundle_are_no_paths(web, tmp_path, altered, name):
    file, before = altered(file=name.format(tmp_path)), {o for o in tmp_path.rglob('*')}
    with pytest.raises(BearclfError, match='manifest.csv in b.zip, row 2: .*It is left alone'):
        collect(file, tmp_path/'deep/student', allow_hosts=web.hosts)
    assert set(tmp_path.rglob('*')) == before and web.log == []


@pytest.mark.parametrize('name', ['..', '../x', '/x', 'a/b', ''])
def test_classes_in_a_bundle_are_no_paths(web, tmp_path, altered, name):
    file = altered(**{'class': name})
    with pytest.raises(BearclfError, match='row 2: .*(cannot be the name of a folder|class is empty)'):
        collect(file, tmp_path/'student', allow_hosts=web.hosts)
    assert not (tmp_path/'student').exists()


def test_a_bomb_in_a_bundle_is_not_unpacked(web, tmp_path, altered):
    file = altered(data=bytes(60_000_000))
    tracemalloc.start()
    collect(file, tmp_path/'student', allow_hosts=web.hosts)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40e6 and asked(web) == [good(web, 1)] and whole(tmp_path/'student') == 1


def test_a_manifest_in_a_bundle_that_is_a_bomb(web, tmp_path):
    with zipfile.ZipFile(tmp_path/'b.zip', 'w', zipfile.ZIP_DEFLATED) as z:
        z.writestr('manifest.csv', bytes(100_000_000))
    tracemalloc.start()
    with pytest.raises(BearclfError, match='is not a bundle'): collect(tmp_path/'b.zip', tmp_path/'student')
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 60e6


def test_a_picture_in_a_bundle_that_is_a_bomb(web, tmp_path, altered):
    collect(altered(data=practice.bomb_png(12_500)), tmp_path/'student', allow_hosts=web.hosts)
    assert reasons(tmp_path/'student') == ['too large to open safely'] and photos(tmp_path/'student') == []


def test_another_photo_in_a_bundle_than_its_row_says(web, tmp_path, altered):
    collect(altered(data=requests.get(good(web, 7)).content), tmp_path/'student', allow_hosts=web.hosts)
    assert reasons(tmp_path/'student') == ['another photo than when the bundle was made']
    assert photos(tmp_path/'student') == []


def test_a_photo_in_a_bundle_that_is_damaged(web, tmp_path, altered):
    file = altered()
    with zipfile.ZipFile(file) as z: at = z.infolist()[-1].header_offset + 80
    data = bytearray(file.read_bytes())
    data[at:at+20] = bytes(20)
    file.write_bytes(data)
    collect(file, tmp_path/'student', allow_hosts=web.hosts)
    assert whole(tmp_path/'student') == 1 and asked(web) == [good(web, 1)]


@pytest.mark.parametrize('value', ['', 'xyz', 'ff'])
def test_a_hash_in_a_bundle_that_is_none(web, tmp_path, altered, value):
    with pytest.raises(BearclfError, match='names no photo.*row 2: perceptual_hash is'):
        collect(altered(perceptual_hash=value), tmp_path/'student', allow_hosts=web.hosts)
    collect(altered(sha256='0'*64, perceptual_hash='0'*144), tmp_path/'student', allow_hosts=web.hosts)
    assert reasons(tmp_path/'student') == ['another photo than when the bundle was made']


@pytest.mark.parametrize('make', [lambda o: o.write_text('no zip'), lambda o: o.write_bytes(b''),
                                  lambda o: zipfile.ZipFile(o, 'w').close(),
                                  lambda o: zipfile.ZipFile(o, 'w').writestr('manifest.csv', 'a,b\n1,2\n'),
                                  lambda o: zipfile.ZipFile(o, 'w').writestr('manifest.csv', b'\xff\xfe\0'),
                                  lambda o: o.mkdir()])
def test_what_is_no_bundle(tmp_path, make):
    make(tmp_path/'b.zip')
    with pytest.raises(BearclfError, match='is not a bundle'): collect(tmp_path/'b.zip', tmp_path/'student')
    assert not (tmp_path/'student').exists()


def test_bundles_that_are_not_there_or_cannot_be_made(tmp_path):
    with pytest.raises(BearclfError, match='There is no bundle'): collect(tmp_path/'b.zip', tmp_path/'student')
    with pytest.raises(BearclfError, match='has no manifest.csv'): bundle(tmp_path, tmp_path/'b.zip')
    with pytest.raises(BearclfError, match='There is no folder'): bundle(tmp_path/'bears', tmp_path/'b.zip')


# Memory

def test_photos_are_not_held_in_memory(web, tmp_path, fault, monkeypatch):
    "700 photos of 40 KB are 28 MB. On a busy machine 64 are under way, with 0.25 MB each in the server and here"
    async def noise(web, req, a):
        return await practice.reply(req, hashlib.shake_128(str(a.photo).encode()).digest(40_000))
    fault(noise)
    def prepared(data):
        h = hashlib.sha256(data).hexdigest()
        return data, Photo('', True, True, h, '.jpg', hashlib.shake_128(data).hexdigest(72), 64, 64, len(data))
    monkeypatch.setattr(fetch, '_prepared', prepared)
    gather(web, tmp_path/'first', faulty(web, 'own'))  # what is imported now is not counted
    peaks = []
    for n in 100, 800:
        tracemalloc.start()
        gather(web, tmp_path/str(n), [faulty(web, 'own', i, i%40) for i in range(n)])
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert len(photos(tmp_path/str(n))) == n
    assert peaks[1] - peaks[0] < 24e6, peaks
