"The practice web does on the wire what its faults are called, and nothing leaves the machine"
import io, json, re, signal, socket, subprocess, sys, threading, time, zlib
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest, requests
from ddgs import DDGS
from PIL import Image, ImageChops, ImageOps, ImageStat

from helpers import top
from bearclf.core import BearclfError
from bearclf.practice.drawn import CLASSES, draw_bear
from bearclf.practice.web import FAULTS, FINE, PracticeWeb, practice_web



@pytest.fixture(scope='module')
def web():
    with practice_web(n=45, size=96, faults={k: 1 for k in FAULTS}, terms={'кот': 'black'}) as web: yield web.prepare()


def session(web):
    s = requests.Session()
    s.trust_env, s.verify = False, web.reach['verify']
    s.proxies = dict(https=web.reach['proxy'], http=web.reach['proxy'])
    return s


def ask(web, url, timeout=30, **params): return session(web).get(url, params=params, timeout=timeout)
def fetch(web, fault, **kw): return requests.get(at(web, fault), timeout=30, **kw)
def at(web, fault, kind='teddy'): return next(a.address for a in web.addresses(kind) if a.fault == fault)
def opened(data): return Image.open(io.BytesIO(data))


def raw(address, seconds=1, limit=10**6):
    "What comes over the wire for a plain GET in so many seconds: head, body, and whether the connection was closed"
    u = urlsplit(address)
    with socket.create_connection((u.hostname, u.port), timeout=2) as s:
        s.sendall(f'GET {u.path}{"?"+u.query if u.query else ""} HTTP/1.1\r\nHost: {u.netloc}\r\n\r\n'.encode())
        data, closed, end = b'', False, time.time()+seconds
        try:
            while len(data) < limit and not closed and (left := end-time.time()) > 0:
                s.settimeout(left)
                data += (new := s.recv(1<<16))
                closed = not new
        except TimeoutError: pass
    head, _, body = data.partition(b'\r\n\r\n')
    return head.decode(), body, closed


def test_ddgs_reads_duckduckgo_and_bing(web):
    search = DDGS(**web.reach, timeout=30)
    for backend in 'duckduckgo', 'bing':
        got = search.images('teddy bear', backend=backend, max_results=None)
        assert all(o['title'].startswith('Teddy bear') and int(o['width']) and o['url'] for o in got)
        every = [unquote(a.address) for a in web.addresses('teddy')]
        assert {unquote(o['image']) for o in got} <= set(every) and len(got) >= 35, backend
    cats = [o['image'] for o in search.images('кот', backend='duckduckgo', max_results=5)]
    assert cats == [unquote(a.address) for a in web.addresses('black')[:5]]
    with pytest.raises(Exception, match='No results'): search.images('llama', backend='duckduckgo')


def vqd(web, q): return re.search('vqd="(.+?)"', ask(web, 'https://duckduckgo.com/', q=q).text)[1]
def ddg(web, q='teddy', **kw):
    return ask(web, 'https://duckduckgo.com/i.js', o='json', q=q, l='us-en', vqd=vqd(web, q), p='-1', **kw)
def openverse(web, q='teddy', **kw): return ask(web, 'https://api.openverse.org/v1/images/', q=q, **kw)
def commons(web, q='teddy', **kw):
    return ask(web, 'https://commons.wikimedia.org/w/api.php', action='query', generator='search', gsrnamespace=6,
               gsrsearch=q, prop='imageinfo',
               iiprop='url|size|mime|extmetadata|user', format='json', **kw)
def bing(web, q='teddy', **kw):
    return ask(web, 'https://www.bing.com/images/async', q=q, **{'async': 1, 'first': 1, 'count': 35} | kw)
def serpapi(web, q='teddy', **kw):
    return ask(web, 'https://serpapi.com/search', q=q, api_key='k', engine='google_images', **kw)


def test_all_pages_together_reach_everything():
    with practice_web(n=130, size=16) as web:
        every = {a.address for a in web.addresses('teddy')}
        first = ddg(web).json()
        second = session(web).get('https://duckduckgo.com/'+first['next']+'&vqd='+vqd(web, 'teddy')).json()
        assert len(first['results']) == 100 and {o['image'] for o in first['results']+second['results']} == every
        assert 'next' not in second
        pages = [openverse(web, page=i+1).json() for i in range(7)]
        assert {o['url'] for p in pages for o in p['results']} == every and pages[0]['page_count'] == 7
        assert pages[0]['result_count'] == 130
        got, offset = [], 0
        while offset is not None:
            page = commons(web, gsrlimit=50, gsroffset=offset).json()
            got += page['query']['pages'].values()
            offset = page.get('continue', {}).get('gsroffset')
        assert sorted(o['index'] for o in got) == list(range(1, 133))
        urls = {o['imageinfo'][0]['url']: o['imageinfo'][0]['mime'] for o in got}
        assert every == {k for k,v in urls.items() if v == 'image/jpeg'} and len(urls) == 132
        assert {o['original'] for i in range(2) for o in serpapi(web, ijn=i).json()['images_results']} == every
        found = [m for i in range(4) for m in re.findall('murl&quot;: &quot;(.+?)&quot;', bing(web, first=35*i+1).text)]
        assert len(found) == 130 and len(set(found)) == 130
        orders = [found[:20], [o['url'] for o in pages[0]['results']], [o['image'] for o in first['results'][:20]]]
        assert all(0 < len(set(a) & set(b)) for a in orders for b in orders) and orders[0] != orders[1] != orders[2]


def test_services_say_no_as_the_real_ones_do(web):
    assert ask(web, 'https://duckduckgo.com/i.js', q='teddy', vqd='4-1').status_code == 403
    assert (r := openverse(web, page_size=21)).status_code == 401 and 'may not exceed 20' in r.json()['detail']
    assert (r := openverse(web, page=13)).status_code == 401 and 'depth' in r.json()['detail']
    assert (r := ask(web, 'https://serpapi.com/search', q='teddy')).status_code == 401
    assert 'Invalid API key' in r.json()['error']
    assert openverse(web, 'llama').json()['result_count'] == 0 and ddg(web, 'llama').json()['results'] == []
    assert 'query' not in commons(web, 'llama').json() and 'error' in serpapi(web, 'llama').json()
    assert 'murl' not in bing(web, 'llama').text
    assert openverse(web, page='x').status_code == 400


def test_licences_and_versions_of_the_format(web):
    new = commons(web, formatversion=2, gsrlimit=20).json()
    assert isinstance(new['query']['pages'], list) and new['batchcomplete'] is True
    assert [o['index'] for o in new['query']['pages']] != sorted(o['index'] for o in new['query']['pages'])
    info = next(o for o in new['query']['pages'] if o['index'] == 1)['imageinfo'][0]
    assert info['extmetadata']['Artist']['value'].startswith('<a href')
    assert {'LicenseShortName', 'LicenseUrl', 'Credit', 'UsageTerms'} <= set(info['extmetadata'])
    assert 'application/pdf' in {o['imageinfo'][0]['mime'] for o in new['query']['pages']}
    bitmaps = commons(web, 'teddy filetype:bitmap', gsrlimit=500).json()['query']['pages'].values()
    assert {o['imageinfo'][0]['mime'] for o in bitmaps} == {'image/jpeg'}
    free = [o for i in (1, 2, 3) for o in openverse(web, license='by,cc0', page=i).json()['results']]
    assert {o['license'] for o in free} == {'by', 'cc0'}
    assert all(o['license_url'].startswith('https://creativecommons.org/') for o in free)


FORMATS = dict(duckduckgo=ddg, bing=bing, openverse=openverse, commons=commons, serpapi=serpapi)

@pytest.mark.parametrize('name', FORMATS)
def test_engine_faults(web, name):
    def after(fault):
        if name == 'duckduckgo': fault = [''] + fault  # the page with the number comes first
        web.engine_faults[name] = list(fault)
        return FORMATS[name](web)
    for status in 403, 429, 202, 500:
        assert after([str(status)]).status_code == status and web.engine_faults[name] == []
    assert 'Retry-After' not in after(['429']).headers and after(['429:3']).headers['Retry-After'] == '3'
    if name == 'openverse':
        assert after(['429:3']).json() == dict(detail='Request was throttled. Expected available in 3 seconds.')
    whole = after([]).text
    assert whole.startswith(after(['cut']).text[:40]) and len(after(['cut']).text) < len(whole)
    assert after(['html']).text.startswith('<!DOCTYPE html>') and '127.0.0.1' not in after(['html']).text
    assert '127.0.0.1' in whole and '127.0.0.1' not in after(['empty']).text
    if name == 'bing': assert 'iusc' not in after(['changed']).text
    else: assert set(after(['changed']).json()) == {'version', 'data'}
    if name != 'bing':
        with pytest.raises(ValueError): after(['cut']).json()
    web.engine_faults[name] = ['', 'stall'] if name == 'duckduckgo' else ['stall']
    with pytest.raises(requests.exceptions.RequestException): FORMATS[name](web, timeout=.3)
    assert after([]).status_code == 200


def test_duckduckgo_without_its_number(web):
    web.engine_faults['duckduckgo'] = ['changed']
    with pytest.raises(Exception, match='vqd'): DDGS(**web.reach, timeout=30).images('teddy', backend='duckduckgo')


def test_good_photos_come_as_they_were_drawn(web):
    for a in [a for a in web.addresses('grizzly') if not a.fault]:
        r = requests.get(a.address)
        assert r.status_code == 200 and r.headers['Content-Type'] == 'image/jpeg'
        assert difference(opened(r.content), draw_bear('grizzly', f'practice {a.photo}', 96)) < 6
        if '%3F' in a.address or '%26' in a.address: assert requests.get(unquote(a.address)).status_code == 404
    kept = requests.Session()
    assert all(kept.get(a.address).ok for a in web.addresses('black') if not a.fault)


def difference(a, b): return sum(ImageStat.Stat(ImageChops.difference(a.convert('RGB'), b.convert('RGB'))).mean)/3


def test_obtainable(web):
    for kind in CLASSES:
        got = web.obtainable(kind)
        bad = [a.photo for a in web.addresses(kind) if a.fault in set(FAULTS)-FINE]
        assert len(bad) == len(set(FAULTS)-FINE) and sorted(got+bad) == list(range(45))


@pytest.mark.parametrize('fault,status', [('dead', 404), ('forbidden', 403), ('always429', 429)])
def test_refusals(web, fault, status):
    assert [fetch(web, fault).status_code for _ in range(2)] == [status]*2
    assert 'Retry-After' not in fetch(web, fault).headers


def test_good_the_second_time(web):
    for fault, status, wait in ('once500', 500, None), ('once429', 429, '1'):
        first, second = fetch(web, fault), fetch(web, fault)
        assert (first.status_code, first.headers.get('Retry-After'), second.status_code) == (status, wait, 200)
        opened(second.content).load()


def test_endless_ones(web):
    head, body, closed = raw(at(web, 'stalled'))
    assert '200 OK' in head and 'Content-Length: 50000' in head and body == b'' and not closed
    head, body, closed = raw(at(web, 'slow'), seconds=1.5)
    assert '200 OK' in head and 1 <= len(body) < 20 and not closed


def test_cut_and_truncated(web):
    head, body, closed = raw(at(web, 'cut'), seconds=30)
    assert closed and len(body) < int(re.search(r'Content-Length: (\d+)', head)[1])
    r = fetch(web, 'truncated')
    assert int(r.headers['Content-Length']) == len(r.content)
    with pytest.raises(OSError): opened(r.content).load()


def test_too_much(web):
    head, body, _ = raw(at(web, 'huge'), seconds=30, limit=3*10**6)
    assert 'Content-Length' not in head and len(body) > 2*10**6 and body.startswith(b'\xff\xd8')
    head, body, _ = raw(at(web, 'huge_declared'), seconds=30, limit=3*10**6)
    assert 'Content-Length: 300000000' in head and len(body) > 2*10**6
    r = fetch(web, 'gzip_bomb', stream=True)
    data = r.raw.read(decode_content=False)
    assert r.headers['Content-Encoding'] == 'gzip' and len(data) < 400_000
    assert int.from_bytes(data[-4:], 'little') > 300*10**6
    unpack = zlib.decompressobj(31)  # as most clients do: one stream, and what follows it is not looked at
    assert unpack.decompress(data, 10**6).startswith(b'\xff\xd8') and unpack.unconsumed_tail and not unpack.eof
    r = fetch(web, 'bomb')
    with pytest.raises(Image.DecompressionBombError): opened(r.content)
    assert len(r.content) < 400_000


def test_redirects(web):
    r = fetch(web, 'redirect')
    assert r.history[0].status_code == 302 and r.url.split('/')[3] == 'good' and opened(r.content).size == (96, 96)
    r = fetch(web, 'redirect_private', allow_redirects=False)
    assert r.headers['Location'].startswith('http://localhost:')
    assert not [o for o in web.log if o.path.startswith('/inside/')]
    fetch(web, 'redirect_private')
    assert [o for o in web.log if o.path.startswith('/inside/')]
    assert fetch(web, 'redirect_file', allow_redirects=False).headers['Location'] == 'file:///etc/passwd'
    with pytest.raises(requests.TooManyRedirects): fetch(web, 'redirect_loop')


def test_other_formats(web):
    assert fetch(web, 'html').content.startswith(b'<!DOCTYPE')
    assert fetch(web, 'html').headers['Content-Type'] == 'image/jpeg'
    for fault in 'webp', 'avif', 'gif', 'png':
        im = opened(fetch(web, fault).content)
        assert im.format == fault.upper() and at(web, fault).endswith('.jpg')
        if fault == 'png': assert im.mode == 'RGBA'
        if fault == 'gif': assert im.n_frames == 3
        a = next(a for a in web.addresses('teddy') if a.fault == fault)
        if fault != 'png': assert difference(im, draw_bear('teddy', f'practice {a.photo}', 96)) < 12
    assert '..%2F..%2Fx.jpg' in at(web, 'path')
    r = fetch(web, 'path')
    assert '../../x.jpg' in r.headers['Content-Disposition'] and opened(r.content).size == (96, 96)


def test_photo_of_a_phone(web):
    a = next(a for a in web.addresses('teddy') if a.fault == 'exif')
    data = requests.get(a.address).content
    im = opened(data)
    assert im.getexif()[0x0112] == 6 and im.getexif().get_ifd(0x8825)[1] == 'N' and b'GPSLatitude' in data
    assert b'Photoshop 3.0' in data
    assert im.info['comment'] == b'taken at home' and b'Masha Medvedeva' in data
    drawn = draw_bear('teddy', f'practice {a.photo}', 96)
    assert difference(ImageOps.exif_transpose(im), drawn) < 6 < difference(im, drawn)


def test_copies(web):
    group = lambda fault: [a for a in web.addresses('teddy') if a.fault == fault]
    a, b = group('same')
    assert a.address.split('/')[2] != b.address.split('/')[2]
    assert requests.get(a.address).content == requests.get(b.address).content
    sizes = {opened(requests.get(a.address).content).width for a in group('sizes')}
    assert sizes == {96, 48, 72} and group('sizes')[0].side == 96 and len({a.photo for a in group('sizes')}) == 1


def test_nobody_there(web):
    u = urlsplit(at(web, 'refused'))
    with pytest.raises(ConnectionRefusedError): socket.create_connection((u.hostname, u.port), timeout=2)
    assert at(web, 'unknown_host').startswith('http://no-such-host.invalid/')


def test_each_fault_at_an_address_of_its_own(web):
    for fault in set(FAULTS)-{'stalled', 'slow', 'huge', 'huge_declared', 'gzip_bomb', 'cut', 'redirect_loop',
                              'redirect_file', 'refused', 'unknown_host'}:
        r = requests.get(f'{web.sites[1]}/fault/{fault}/black-7.jpg', timeout=30)
        if fault in FINE and not fault.startswith('once'): opened(r.content).load()


def test_nothing_leaves_the_machine(web):
    for url in 'https://example.org/', 'https://127.0.0.1/', 'https://upload.wikimedia.org/x.jpg':
        with pytest.raises(requests.exceptions.ProxyError): ask(web, url)
        assert web.log[-1].status == 403
    assert ask(web, 'http://example.org/x').status_code == 403
    assert ask(web, 'http://api.openverse.org/v1/images/', q='teddy').status_code == 200
    assert ask(web, next(a for a in web.addresses('teddy') if not a.fault).address).status_code == 200


def test_log():
    with practice_web(n=3, size=64, latency=1) as web:
        addresses = [a.address for a in web.addresses('teddy')]
        same = f'{web.sites[0]}/good/teddy/0.jpg'
        threads = [threading.Thread(target=requests.get, args=(same,), kwargs=dict(headers={'User-Agent': 'me'}))
                   for _ in range(3)]
        t0 = time.time()
        for o in threads: o.start()
        for o in threads: o.join()
        assert time.time()-t0 > 1
        assert sorted(o.active for o in web.log) == [1, 2, 3]
        assert all(o.complete and o.user_agent == 'me' and o.n_bytes > 500 for o in web.log)
        assert all(t0 <= o.when <= time.time() and o.host == same.split('/')[2] for o in web.log)
        web.log.clear()
        with pytest.raises(requests.exceptions.RequestException):
            requests.get(f'{web.sites[0]}/fault/stalled/x', timeout=3)
        assert [(o.status, o.complete, o.n_bytes) for o in web.log] == [(200, False, 0)]
        requests.get(addresses[0])
        assert web.log[-1].path == '/'+addresses[0].split('/', 3)[3]


def test_the_same_seed_gives_the_same_web():
    def paths(seed):
        with practice_web(n=20, size=16, seed=seed, faults=dict(dead=.2)) as web:
            return [(a.address.split('/', 3)[3], a.photo, a.fault) for a in web.addresses('black')]
    assert paths('a') == paths('a') != paths('b')


def test_close_frees_ports_and_removes_the_certificate():
    before = threading.active_count()
    web = practice_web(n=3, size=32)
    kept = requests.Session()
    kept.get(web.addresses('teddy')[0].address)
    slow = socket.create_connection(('127.0.0.1', web.ports[0]))
    slow.sendall(b'GET /fault/stalled/x HTTP/1.1\r\n\r\n')
    pem, ports = Path(web.reach['verify']), [*web.ports, int(web.reach['proxy'].split(':')[2])]
    assert pem.exists()
    t0 = time.time()
    web.close(); web.close()
    slow.close(); kept.close()
    assert time.time()-t0 < 20 and not pem.exists() and not pem.parent.exists() and threading.active_count() == before
    for port in ports:
        with pytest.raises(ConnectionRefusedError): socket.create_connection(('127.0.0.1', port), timeout=1)


def test_what_cannot_be_planted_is_said():
    with pytest.raises(BearclfError, match='no fault called'): PracticeWeb(faults=dict(ded=1))
    with pytest.raises(BearclfError, match='more than 3 photos'): PracticeWeb(n=3, faults=dict(dead=4))


def test_a_process_of_its_own_and_one_that_forgets_to_close():
    cmd = [sys.executable, '-W', 'ignore', '-m', 'bearclf.practice.web', '--n', '4', '--size', '32',
           '--faults', '{"dead": 1}', '--terms', '{"кот": "teddy"}']
    with subprocess.Popen(cmd, cwd=top, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as ended:
        other = json.loads(ended.stdout.readline())
        ended.send_signal(signal.SIGTERM)
        assert ended.wait(20) == 0 and not Path(other['reach']['verify']).exists()
    with subprocess.Popen(cmd, cwd=top, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as proc:
        said = json.loads(proc.stdout.readline())
        assert len(said['addresses']['teddy']) == 4 and said['hosts'] == ['127.0.0.1']
        assert len(said['obtainable']['black']) == 3
        outcomes = {requests.get(o['address']).status_code: o['fault'] for o in said['addresses']['teddy']}
        assert outcomes == {200: '', 404: 'dead'}
        proc.stdin.close()
        assert proc.wait(20) == 0
    assert not Path(said['reach']['verify']).exists()
    code = 'from bearclf.practice.web import *; web = practice_web(n=3, size=32); print(web.reach["verify"])'
    res = subprocess.run([sys.executable, '-W', 'ignore', '-c', code], cwd=top, capture_output=True,
                         text=True, timeout=60)
    assert res.returncode == 0 and res.stderr == '' and not Path(res.stdout.strip()).exists()
