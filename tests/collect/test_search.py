"The search goes on when services refuse, asks politely, and gives addresses and licences as the services said them"
import json, random, sys, threading, time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import parse_qs, urlsplit

import pytest

from helpers import LONG
from bearclf.collect import search
from bearclf.practice import web as practice
from bearclf.core import BearclfError
from bearclf.practice.web import practice_web
from bearclf.collect.search import *
from bearclf.collect.search import ENGINES, Web

NAMES = 'duckduckgo', 'bing', 'openverse', 'commons'


@pytest.fixture(scope='module')
def web():
    with practice_web(n=130, size=16) as web: yield web


@pytest.fixture(autouse=True)
def fresh(web, tmp_path, monkeypatch):
    "A cache of its own for each test, engines that nobody has asked yet, and no proxy of this machine's"
    monkeypatch.setenv('BEARCLF_CACHE', str(tmp_path/'cache'))
    for o in 'http_proxy', 'https_proxy', 'all_proxy', 'no_proxy', 'SERPAPI_KEY', 'DDGS_PROXY':
        for k in o, o.upper(): monkeypatch.delenv(k, raising=False)
    monkeypatch.setattr(search, '_next', {})
    monkeypatch.setattr(search, 'ENGINES', dict(search.ENGINES))
    web.engine_faults.clear()
    web.log.clear()


def find(web, term='teddy bear', n=20, engine=None, **kw):
    return search_images(term, n, engine, **dict(dict(wait=.02, timeout=LONG), **web.reach) | kw)
def sentence(*args, **kw):
    with pytest.raises(BearclfError) as e: find(*args, **kw)
    return str(e.value)
def asked(web, host): return [o for o in web.log if host in o.host]
def parameters(visit): return {k: v[0] for k, v in parse_qs(urlsplit(visit.path).query).items()}
def own(name, *addresses):
    "An engine that knows these addresses; a list of what it was asked"
    calls = []
    def f(term, page, safe, web):
        calls.append((term, page, safe))
        return [ImageResult(o) for o in addresses] if page == 1 else []
    f.__name__ = name
    search_engine(f)
    return calls


# Refusals

NOT_READ, JSON = 'an answer that ddgs cannot read', 'an answer that is not JSON'
NONE = 'no results, which is also what ddgs says after a refusal'
# Openverse, Commons, DuckDuckGo, Bing
WORDS = {**{o: (f'refused with status {o}',)*2 + (NOT_READ, NONE) for o in ('403', '429', '202')},
         'stall': ('no answer in 2 s',)*2 + ('no answer in time',)*2, 'html': (JSON, JSON, NOT_READ, NONE),
         'cut': (JSON, JSON, NOT_READ, None),
         'changed': ('an answer in a form that is not known here',)*2 + (NOT_READ, NONE),
         'empty': (None, None, NONE, NONE)}


@pytest.mark.parametrize('name', NAMES)
@pytest.mark.parametrize('fault', WORDS)
def test_the_others_go_on_when_one_fails(web, name, fault, capsys):
    words = dict(zip(('openverse', 'commons', 'duckduckgo', 'bing'), WORDS[fault]))[name]
    web.engine_faults[name] = [fault]*6 if (name, fault) != ('duckduckgo', 'stall') else ['', 'stall']*3
    res, others = find(web, timeout=2 if fault == 'stall' else LONG), set(NAMES) - {name}
    assert len(res) == 20 and set(res.attrgot('engine')) >= others
    said = capsys.readouterr().out
    if words:
        assert f'{name}: {words}.' in said and 'The results are from' in said and name not in res.attrgot('engine')
        assert not [o for o in others if f'{o}:' in said]
    else: assert said == ''


def test_only_if_all_fail_it_is_an_error_that_names_each(web):
    web.engine_faults.update(duckduckgo=['403']*3, bing=['429']*3, openverse=['500']*3, commons=['html']*3)
    said = sentence(web)
    assert said.startswith("No engine could be asked for 'teddy bear'. ")
    assert said.endswith('. Check the network, or try again later.')
    assert all(f'{o}: ' in said for o in NAMES) and '\n' not in said


def test_nobody_knows_a_picture_is_no_error(web, capsys):
    assert list(find(web, 'llama', engine='openverse')) == [] and 'No engine knows a picture' in capsys.readouterr().out


def test_a_service_that_is_not_reached(web):
    assert 'openverse: not reached (ProxyError)' in sentence(web, engine='openverse', proxy='http://127.0.0.1:9')
    assert 'duckduckgo: not reached' in sentence(web, engine='duckduckgo', proxy='http://127.0.0.1:9')


def test_a_mistake_in_an_engine_of_ones_own_is_not_hidden(web):
    @search_engine
    def wrong(term, page, safe, web): return 1/0
    with pytest.raises(ZeroDivisionError): find(web, engine='wrong')


# Waiting

def gaps(web): return [b.when - a.when for a, b in zip(web.log, web.log[1:])]


def test_three_tries_with_a_wait_that_doubles_and_differs(web, monkeypatch):
    slept = []
    random.seed(15)
    web.engine_faults['openverse'] = ['403']*5
    monkeypatch.setattr(time, 'sleep', lambda s: slept.append(s))
    assert 'status 403' in sentence(web, engine='openverse', wait=100)
    _, first, _, second, _ = slept  # those between are for the engine's turn
    assert len(web.engine_faults['openverse']) == 2
    assert 100 <= first <= 200 and 200 <= second <= 300 and abs((first - 100) - (second - 200)) > 1


@pytest.mark.parametrize('name', ['openverse', 'commons'])
def test_waits_as_long_as_the_server_says(web, name, capsys):
    web.engine_faults[name] = ['429:1']
    assert len(find(web, engine=name)) == 20 and capsys.readouterr().out == ''
    first, = gaps(web)
    assert 1 <= first


def test_a_server_that_wants_half_a_minute_is_left_alone(web, capsys):
    web.engine_faults['openverse'] = ['429:31']
    assert len(find(web)) == 20
    assert 'openverse: refused with status 429, come back in 31 s.' in capsys.readouterr().out
    assert len(asked(web, 'openverse')) == 1


def test_retry_after_may_be_a_date():
    from email.utils import formatdate
    assert search.retry_after('7') == 7 and search.retry_after('-7') == 0
    assert 5 < search.retry_after(formatdate(time.time()+8, usegmt=True)) <= 8
    assert search.retry_after('soon') is search.retry_after(None) is None
    assert search.retry_after('Wed, 21 Oct 2015 07:28:00 GMT') == 0


def test_what_does_not_help_is_not_tried_again(web):
    web.engine_faults['openverse'] = ['401']*3
    assert 'status 401' in sentence(web, engine='openverse') and len(web.log) == 1


def test_several_searches_at_once_ask_an_engine_one_after_the_other(web):
    threads = [threading.Thread(target=find, args=(web, o), kwargs=dict(engine='openverse', wait=.8))
               for o in ('teddy', 'grizzly bear', 'black bear')]
    for o in threads: o.start()
    for o in threads: o.join()
    assert len(web.log) == 3 and min(gaps(web)) > .25  # half of `wait` is .4


# Results

def test_results_are_taken_in_turn_and_each_address_once(web):
    a, b, c = (f'http://a.example/{o}.jpg?w=1' for o in 'abc')
    own('one', a, b, b), own('two', 'http://a.example/x.jpg', 'https://A.example/b.jpg?w=1#top', c,
                             'http://a.example/c.jpg?w=2')
    res = find(web, engine=['one', 'two'])
    assert list(res.attrgot('address')) == [a, 'http://a.example/x.jpg', b, c, 'http://a.example/c.jpg?w=2']
    assert list(res.attrgot('engine')) == ['one', 'two', 'one', 'two', 'two']


def test_four_engines_find_each_address_once(web):
    res = find(web, n=500)
    assert sorted(res.attrgot('address')) == sorted(a.address for a in web.addresses('teddy'))
    assert list(res[:2].attrgot('engine')) == ['duckduckgo', 'bing']


@pytest.mark.parametrize('n', [1, 7, 20, 21])
def test_max_images_is_kept_exactly(web, n):
    assert len(find(web, n=n, engine='openverse')) == n
    assert len(web.log) == 1 + (n > 20)


@pytest.mark.parametrize('name', NAMES)
def test_all_pages_in_the_services_own_order_byte_for_byte(web, name):
    "Russian words, too; and Commons' answer is out of order, as it is keyed by number"
    res = find(web, 'плюшевый медведь', 500, name)
    assert list(res.attrgot('address')) == [a.address for a in web.found(getattr(practice, name), 'teddy')]
    assert sum('%3F' in o and '%26' in o for o in res.attrgot('address')) > 3
    assert all(o.page.startswith('http') and o.title and o.width == o.height == 16 for o in res)


def test_openverse_gives_twelve_pages_of_twenty(tmp_path, capsys):
    with practice_web(n=300, size=16) as web:
        assert len(find(web, n=500, engine='openverse')) == 240
        said = [parameters(o) for o in web.log]
    assert [int(o['page']) for o in said] == list(range(1, 13)) and {o['page_size'] for o in said} == {'20'}
    assert capsys.readouterr().out == ''


@pytest.mark.parametrize('safe', [True, False])
def test_safe_search_is_on_unless_one_turns_it_off(web, safe):
    kw = {} if safe else dict(safe=False)
    find(web, engine=['duckduckgo', 'openverse'], **kw)
    assert {parameters(o)['p'] for o in asked(web, 'duckduckgo') if 'i.js' in o.path} == {'1' if safe else '-1'}
    assert {parameters(o)['mature'] for o in asked(web, 'openverse')} == {'false' if safe else 'true'}


def test_licence_creator_and_attribution(web):
    known = {a.address: practice.facts(a, web.seed) for a in web.addresses('grizzly')}
    for o in find(web, 'grizzly bear', 100, ['openverse', 'commons']):
        f, name = known[o.address], o.licence
        assert o.creator == f['creator'] and f['creator'] in o.attribution and f['title'] in o.attribution
        assert name == {'pdm': 'Public domain', 'cc0': 'CC0 1.0' if o.engine == 'openverse'
                        else 'CC0'}.get(f['licence'], f['licence_name'])
        address = any(k in o.attribution for k in ('licenses/', 'publicdomain/'))
        assert name in o.attribution or o.engine == 'openverse' and address
        assert '<' not in o.creator and o.page.startswith('http')


@pytest.mark.parametrize('name', ['duckduckgo', 'bing'])
def test_what_ddgs_finds_has_an_unknown_licence(web, name):
    assert {(o.licence, o.creator, o.attribution) for o in find(web, engine=name)} == {('unknown', '', '')}


def test_who_is_asking(web):
    find(web, engine=['openverse', 'commons'])
    assert {o.user_agent for o in web.log} == {search.USER_AGENT} and search.USER_AGENT.startswith('bearclf/')


# The cache

def cached(tmp_path): return list((tmp_path/'cache/search').glob('*.json'))

def aged(tmp_path, days):
    "The answers in the cache, as if they had been given so many days ago"
    for o in cached(tmp_path): o.write_text(json.dumps([time.time() - days*86400, json.loads(o.read_text())[1]]))


def test_asked_once_a_week(web, tmp_path):
    res = find(web)
    assert web.log and len(cached(tmp_path)) == 4
    web.log.clear()
    assert find(web) == res and web.log == []
    aged(tmp_path, 6.9)
    assert find(web) == res and web.log == []
    aged(tmp_path, 7.1)
    assert find(web) == res and len(web.log) >= 4


def test_asks_again_on_request_or_for_something_else(web, tmp_path):
    find(web, engine='openverse', cache_days=0)
    assert not cached(tmp_path)
    for kw in {}, dict(cache_days=0), dict(safe=False), dict(term='grizzly bear'), dict(engine='commons'):
        web.log.clear()
        assert len(find(web, **dict(engine='openverse') | kw)) == 20 and len(web.log) == 1, kw


@pytest.mark.parametrize('data', [b'', b'{', b'[{"address": "http://a.exa', b'[1]', b'null', b'[{"nonsense": 1}]',
                                  b'[9e9, [{"nonsense": 1}]]',
                                  b'\xff\xfe\0', b'{"a": 1}'])
def test_a_cache_file_that_cannot_be_read_is_asked_for_again(web, tmp_path, data):
    res = find(web, engine='openverse')
    cached(tmp_path)[0].write_bytes(data)
    web.log.clear()
    assert find(web, engine='openverse') == res and len(web.log) == 1
    assert find(web, engine='openverse') == res and len(web.log) == 1


def test_an_answer_without_results_is_believed_for_an_hour(web, tmp_path):
    web.engine_faults['openverse'] = ['empty']
    assert len(find(web, engine='openverse')) == len(find(web, engine='openverse')) == 0 and len(web.log) == 1
    aged(tmp_path, 3700/86400)
    assert len(find(web, engine='openverse')) == 20


def test_a_refusal_is_not_remembered(web, tmp_path):
    web.engine_faults['openverse'] = ['403']*3
    sentence(web, engine='openverse')
    assert not cached(tmp_path) and len(find(web, engine='openverse')) == 20


def test_a_cache_that_cannot_be_written_does_no_harm(web, tmp_path):
    (tmp_path/'cache').write_text('a file stands here')
    assert len(find(web)) == 20


# Engines of one's own, with a key, and without their library

def test_an_engine_of_ones_own(web):
    calls = own('archive', 'http://a.example/1.jpg')
    res = find(web, 'мишка', engine=['archive', 'openverse'], safe=False)
    assert res[0].address == 'http://a.example/1.jpg' and res[0].engine == 'archive' and calls[0] == ('мишка', 1, False)
    assert 'archive' in search.ENGINES and not find(web).filter(lambda o: o.engine == 'archive')


@pytest.fixture
def serpapi(web, monkeypatch):
    "What `find` takes besides, where the way to the service stands in the environment"
    for k, v in dict(SERPAPI_KEY='secret', HTTPS_PROXY=web.reach['proxy'],
                     REQUESTS_CA_BUNDLE=web.reach['verify']).items():
        monkeypatch.setenv(k, v)
    return dict(engine='serpapi', proxy=None, verify=True)


def test_serpapi(web, serpapi):
    res = find(web, n=200, **serpapi)
    assert all(o.page.startswith('http') and o.title for o in res)
    assert {o.address for o in res} <= {a.address for a in web.addresses('teddy')} and len(res) == 130
    assert {(o.engine, o.licence) for o in res} == {('serpapi', 'unknown')}
    assert {parameters(o)['api_key'] for o in web.log} == {'secret'}


def test_serpapi_is_asked_only_by_name_and_with_a_key(web, serpapi, monkeypatch):
    find(web)
    assert asked(web, 'duckduckgo') and not asked(web, 'serpapi')
    monkeypatch.delenv('SERPAPI_KEY')
    web.log.clear()
    assert 'SerpApi wants a key, in the environment variable SERPAPI_KEY' in sentence(web, **serpapi) and web.log == []


def test_serpapi_that_refuses_does_not_tell_the_key(web, serpapi):
    web.engine_faults['serpapi'] = ['403']*3
    assert 'serpapi: refused with status 403' in (said := sentence(web, **serpapi)) and 'secret' not in said


def test_two_serpapi_searches_at_once_leave_fastai_as_it_is(web, serpapi):
    from fastai.vision import utils
    theirs, terms = utils.requests, ['teddy', 'grizzly', 'black', 'no such thing']
    with ThreadPoolExecutor(4) as ex: found = list(ex.map(lambda o: ENGINES['serpapi'](o, 1, True, Web()), 3*terms))
    assert utils.requests is theirs
    alone = [ENGINES['serpapi'](o, 1, True, Web()) for o in terms]
    assert found == 3*alone and len(alone[0]) == 130


def test_serpapi_sends_its_key_nowhere_else(serpapi, monkeypatch):
    "An answer that says that it goes on elsewhere"
    asked = []
    def answer(self, url, **params):
        asked.append(url)
        return dict(images_results=[dict(original='http://a.example/1.jpg')],
                    serpapi_pagination=dict(next='https://serpapi.com.evil.example/search?page=2'))
    monkeypatch.setattr(Web, 'json', answer)
    assert [o.address for o in ENGINES['serpapi']('teddy', 1, True, Web())] == ['http://a.example/1.jpg']
    assert asked == ['https://serpapi.com/search']


def test_who_uses_ddgs_besides_gets_what_they_always_got(web):
    "Its addresses are put in order for them, and ours are as the engine said"
    from ddgs.results import ImagesResult
    find(web, engine='duckduckgo'), find(web, engine='bing')
    said = 'http://a.example/?src=b%3Fw%3D1 2'
    theirs = ImagesResult(image=said, url=said)
    assert theirs.image == theirs.url == 'http://a.example/?src=b?w=1+2'
    assert theirs.image.whole == said and not hasattr(theirs.image.whole, 'whole')


def test_serpapi_that_is_silent(web, serpapi):
    web.engine_faults['serpapi'] = ['stall']*3
    said = []
    thread = threading.Thread(target=lambda: said.append(sentence(web, timeout=.3, **serpapi)), daemon=True)
    thread.start()
    thread.join(60)  # without a time limit it would wait for ever
    assert said and 'serpapi: no' in said[0]


def test_without_ddgs_the_others_answer(web, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, 'ddgs', None)
    monkeypatch.setitem(sys.modules, 'duckduckgo_search', None)
    assert set(find(web).attrgot('engine')) == {'openverse', 'commons'}
    why = 'the library ddgs is not installed: pip install ddgs'
    assert f'duckduckgo: {why}; bing: {why}' in capsys.readouterr().out


OLD = """
import warnings
from urllib.parse import unquote
made, calls = [], []

def _normalize_url(url): return unquote(url).replace(' ', '+') if url else ''

class DDGS:
    def __init__(self, headers=None, proxy=None, proxies=None, timeout=10, verify=True):
        warnings.simplefilter('always')
        warnings.warn('This package (`duckduckgo_search`) has been renamed to `ddgs`!', RuntimeWarning, stacklevel=2)
        made.append((proxy, timeout, verify))

    def images(self, keywords, region='us-en', safesearch='moderate', timelimit=None, size=None, color=None,
               type_image=None, layout=None, license_image=None, max_results=None):
        calls.append((keywords, safesearch, max_results))
        image = lambda i: _normalize_url(f'http://a.example/?src=b%3Fw%3D1%26h%3D{i}')
        return [dict(title=f'Bear {i}', image=image(i), thumbnail='', url='http://a.example/', height=3, width=4,
                     source='Bing') for i in range(min(max_results, 130))]
"""


@pytest.fixture
def old_package(tmp_path, monkeypatch):
    "Something with the old package's signature and habits, and no ddgs"
    (tmp_path/'old/duckduckgo_search').mkdir(parents=True)
    (tmp_path/'old/duckduckgo_search/__init__.py').write_text('from .duckduckgo_search import DDGS')
    (tmp_path/'old/duckduckgo_search/duckduckgo_search.py').write_text(OLD)
    monkeypatch.setitem(sys.modules, 'ddgs', None)
    monkeypatch.syspath_prepend(tmp_path/'old')
    import duckduckgo_search.duckduckgo_search as old
    yield old
    for o in list(sys.modules):
        if o.startswith('duckduckgo_search'): del sys.modules[o]


def test_the_old_package_is_used_if_only_that_is_there(web, old_package):
    res = find(web, n=500, engine='duckduckgo', safe=False)
    assert list(res.attrgot('title')) == [f'Bear {i}' for i in range(130)] and (res[3].width, res[3].height) == (4, 3)
    assert old_package.calls[:2] == [('teddy bear', 'off', 100), ('teddy bear', 'off', 200)]
    assert old_package.made[0][0] == web.reach['proxy'] and web.log == []
    assert 'ddgs is not installed' in sentence(web, engine='bing')


def test_the_old_package_leaves_addresses_as_they_are_and_does_not_warn(web, old_package, recwarn):
    assert find(web, n=500, engine='duckduckgo')[7].address == 'http://a.example/?src=b%3Fw%3D1%26h%3D7'
    assert not [o for o in recwarn if 'renamed' in str(o.message)]


# The name that people know, and what nobody can search for

def test_search_images_ddg_gives_addresses(web):
    res = search_images_ddg('teddy bear', 5, wait=.02, **web.reach)
    assert list(res) == [a.address for a in web.addresses('teddy')[:5]]
    assert {o.host for o in web.log} <= {'duckduckgo.com', 'duckduckgo.com:443'}


def test_search_images_ddg_falls_back(web):
    web.engine_faults['duckduckgo'] = ['403']*9
    res = search_images_ddg('teddy bear', 5, wait=.02, **web.reach)
    assert len(res) == 5 and all(isinstance(o, str) and o.startswith('http') for o in res)


def test_search_images_ddg_asks_nobody_more_than_three_times(web):
    web.engine_faults['duckduckgo'] = ['403']*9
    search_images_ddg('teddy bear', 5, wait=.02, **web.reach)
    assert len([o for o in asked(web, 'duckduckgo.com') if o.path]) == 3


@pytest.mark.parametrize('call, says', [
    (dict(term=''), 'Say what to look for'), (dict(term='  '), 'Say what to look for'),
    (dict(term=None), 'Say what to look for'), (dict(term='a1B2'*8), 'looks like a key'),
    (dict(engine='duckduck'), "no engine 'duckduck'. Did you mean duckduckgo?"),
    (dict(engine='xyz'), "no engine 'xyz'. There are openverse, commons"),
    (dict(engine=['bing', 'gogle']), "no engine 'gogle'"), (dict(n=0), 'max_images=0 is no number of pictures'),
    (dict(n=-1), 'max_images=-1'), (dict(n='5'), "max_images='5'")])
def test_what_nobody_can_search_for(web, call, says):
    assert says in sentence(web, **call) and web.log == []
