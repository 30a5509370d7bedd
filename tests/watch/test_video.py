"A model that watches: films of both kinds, a camera that goes and comes back, alarms, messages, the command"
import json, os, signal, subprocess, sys, threading, time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO

import av
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from bearclf.core import error_text
from bearclf.practice.film import bear_film_path
from bearclf.ship.portable import Prediction
from bearclf.watch.log import PredictionLog
from bearclf.watch.video import Agreement, Post, camera, match_alarms, save_labelled, source_name, watch
from helpers import LONG, free_port


BEARS = 'black', 'grizzly', 'teddy'


class Bright:
    "A classifier that takes what is bright for a black bear"
    classes, info = ['black', 'nothing'], {}
    def many(self, photos):
        said = ['black' if np.asarray(o).mean() > 128 else 'nothing' for o in photos]
        return [Prediction(o, .9, {o: .9}) for o in said]


def write(file, pictures, rate=2):
    "A film of `pictures`, which are PIL images, or True for a bright one and False for a dark one"
    with av.open(file, 'w') as out:
        stream = out.add_stream('libvpx' if file.suffix == '.webm' else 'libx264', rate=rate, options={'crf': '10'})
        plain = lambda o: Image.new('RGB', (96, 64), (220,)*3 if o else (30,)*3)
        pictures = [o if isinstance(o, Image.Image) else plain(o) for o in pictures]
        stream.width, stream.height, stream.pix_fmt = *pictures[0].size, 'yuv420p'
        for o in pictures: out.mux(stream.encode(av.VideoFrame.from_image(o)))
        out.mux(stream.encode(None))
    return file


# --- films

@pytest.mark.parametrize('suffix', ['.mp4', '.webm'])
def test_alarms_of_a_film_are_in_the_log(suffix, tmp_path):
    film = write(tmp_path/f'a{suffix}', [False]*4 + [True]*6 + [False]*8 + [True] + [False]*3)
    log, seen = PredictionLog(tmp_path/'log.db'), []
    found = [*watch(Bright(), film, ['black'], log, each=lambda *o: seen.append(o))]
    assert [(o.seconds, o.label, o.number, o.source) for o in found] == [(3., 'black', 7, film.name)]
    rows = log.table()
    assert len(rows) == len(seen) == 22 and list(rows.id[rows.alarm == 1]) == [7] and {*rows.source} == {film.name}
    assert {*rows.photo} == {''} and rows.brightness.notna().all()
    assert len([*watch(Bright(), film, ['black'], k=1, of=1)]) == 2


def test_the_same_alarms_of_mp4_and_webm():
    "The drawn film in both, with answers that come from its truth"
    found = []
    for suffix in '.mp4', '.webm':
        film = bear_film_path(1, 30, suffix=suffix)
        truth = pd.read_csv(film.with_suffix('.csv'))
        class Knows:
            classes, info, n = [*BEARS, 'nothing'], {}, -1
            def many(self, photos):
                self.n += 1
                there = [o.kind for o in truth.itertuples() if o.begins <= self.n/2 <= o.ends] or ['nothing']
                return [Prediction(there[0], .9, {there[0]: .9})]
        found.append([(o.seconds, o.label) for o in watch(Knows(), film, BEARS)])
        m = match_alarms(found[-1], truth)
        assert (m.found, m.missed, m.false, m.again) == (len(truth), 0, 0, 0) and max(m.late) <= 1.5
    assert found[0] == found[1] and len(found[0]) == 2


def test_a_film_that_is_cut_short_is_watched_as_far_as_it_goes(tmp_path):
    whole = write(tmp_path/'a.webm', [False]*20 + [True]*20).read_bytes()
    (tmp_path/'b.webm').write_bytes(whole[:-300])
    told = []
    assert len([*camera(tmp_path/'b.webm', tell=told.append)]) > 5
    assert len(told) == 1 and 'cut short' in told[0]


@pytest.mark.parametrize('wrong', [dict(source='no.mp4'), dict(source='gopher://a/b'), dict(alarms=['wolf']), dict(k=0),
                                   dict(k=6), dict(every=0), dict(source='http://[')])
def test_what_cannot_be_watched_is_one_sentence(wrong, tmp_path):
    film = write(tmp_path/'a.mp4', [True]*4)
    said = error_text(lambda: [*watch(Bright(), **(dict(source=film, alarms=['black']) | wrong))])
    assert said.endswith('.') and '\n' not in said


# --- a camera

class Webcam:
    "Sends JPEG after JPEG over HTTP; for each connection in turn, `plan` says which, or which status it answers"
    def __init__(self, plan, port=0, pause=.02, on_end=None):
        self.plan, self.sent, self.asked = list(plan), 0, []
        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args): pass
            def do_GET(self, cam=self):
                cam.asked.append(self.path)
                now = cam.plan.pop(0) if len(cam.plan) > 1 else cam.plan[0]
                if isinstance(now, int): return self.send_error(now)
                self.send_response(200)
                self.send_header('Content-Type', 'multipart/x-mixed-replace; boundary=next')
                self.end_headers()
                try:
                    for o in now:
                        Image.new('RGB', (96, 64), (o,)*3).save(b := BytesIO(), 'JPEG')
                        head = f'--next\r\nContent-Type: image/jpeg\r\nContent-Length: {b.tell()}\r\n\r\n'
                        self.wfile.write(head.encode() + b.getvalue() + b'\r\n')
                        cam.sent += 1
                        time.sleep(pause)
                except OSError: pass
        self.server = ThreadingHTTPServer(('127.0.0.1', port), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self): return f'http://user:secret@127.0.0.1:{self.port}/cam?key=hidden'
    def __enter__(self): return self
    def __exit__(self, *args): self.server.shutdown(); self.server.server_close()


def test_no_alarm_joins_what_was_before_a_gap_and_after_it(tmp_path):
    log, told, seen = PredictionLog(tmp_path/'log.db'), [], []
    with Webcam([[30]*15 + [220]*2, 503, 503, [220]*40]) as cam:
        them = watch(Bright(), cam.url, ['black'], log, every=.01, wait=.05, tell=told.append,
                     each=lambda t, pred: seen.append(pred and pred.label))
        alarm = next(them)
        them.close()
    gap = seen.index(None)
    assert seen[:gap].count('black') in (1, 2) and seen[gap:] == [None] + ['black']*3  # three of its own stretch
    assert alarm.label == 'black' and alarm.number == log.n == len(seen) - 1
    assert ['gone' in o for o in told] == [True, False] and len(cam.asked) == 4
    assert 'secret' not in str(told) + str(log.table().source) and 'hidden' not in str(told)
    assert {*log.table().source} == {f'127.0.0.1:{cam.port}/cam'}


def test_a_camera_whose_machine_is_off_for_a_moment():
    "Its port is closed, and opened again"
    told = []
    with Webcam([[30]*30]) as cam: them = camera(cam.url, .01, wait=.05, tell=told.append); assert next(them)[1]
    for t, im in them:
        if im is None: break
    with Webcam([[220]*50], port=cam.port): assert np.asarray(next(them)[1]).mean() > 200
    them.close()
    assert len(told) == 2 and 'gone' in told[0] and 'there again' in told[1]


def test_one_that_does_not_come_back():
    with Webcam([[30]*10]) as cam: them = camera(cam.url, .01, wait=.01, tries=3, tell=lambda said: None); next(them)
    assert 'has not come back in 3 tries' in error_text(lambda: [*them])


def test_one_that_was_never_there_or_is_a_film(tmp_path):
    said = error_text(lambda: next(camera(f'http://127.0.0.1:{free_port()}/')))
    assert 'cannot be watched' in said and '\n' not in said
    with Webcam([404]) as cam: assert 'cannot be watched' in error_text(lambda: next(camera(cam.url)))


def test_a_slow_model_sees_what_is_now():
    "Of 400 pictures it looks at a few, and none of them is old"
    with Webcam([[*range(30, 230, 1)]*2], pause=.01) as cam:
        them = camera(cam.url, .01)
        next(them)
        behind = []
        for _ in range(5):
            time.sleep(.3)
            behind.append(cam.sent - (round(np.asarray(next(them)[1]).mean()) - 30))
        them.close()
    assert max(behind) < 15 and cam.sent > 60  # all that came meanwhile would be hundreds


def test_a_name_has_no_secrets():
    assert source_name('rtsp://me:secret@cam.local:554/one?key=3#a') == 'cam.local:554/one'


# --- agreement

def run_of(text, k, of, alarms=('b', 't')):
    "What is said about frames: a letter is a class, - is nothing, _ a gap"
    agree = Agreement(alarms, k, of)
    return ''.join(agree(None if o == '_' else Prediction(o, .9, {o: .9})) or '.' for o in text)

@pytest.mark.parametrize('frames, k, of, said', [
    ('--b-b-b--', 3, 5, '......b..'),
    ('--b-b--b-', 3, 5, '.........'),
    ('b--------', 1, 1, 'b........'),
    ('bb-bb----', 1, 1, 'b..b.....'),
    ('bbb----bb', 3, 5, '..b......'),  # one visit
    ('bbb-----bbb', 3, 5, '..b.......b'),
    ('btbtbt', 3, 6, '....bt'),  # each class for itself
    ('bb_b-bb', 3, 5, '......b'),
    ('bbb_bbb', 3, 5, '..b...b')])
def test_when_frames_agree(frames, k, of, said): assert run_of(frames, k, of) == said


def test_what_is_unsure_or_unfamiliar_does_not_count():
    agree = Agreement(['b'], 1, 1)
    assert agree(Prediction('b', .5, {'b': .5}, sure=False)) is None
    assert agree(Prediction('b', .9, {'b': .9}, familiar=False, near=2.)) is None
    assert agree(Prediction('b', .9, {'b': .9}, familiar=True)) == 'b'


def test_found_missed_and_false():
    truth = pd.DataFrame(dict(kind=['black', 'teddy', 'black'], begins=[2., 10, 20], ends=[6., 15, 25]))
    m = match_alarms([(3., 'black'), (5., 'black'), (12., 'black'), (25.5, 'black'), (40., 'teddy')], truth)
    assert (m.found, m.missed, m.false, m.again, m.late) == (2, 1, 2, 1, [1., 5.5])
    only = match_alarms([(3., 'black')], truth, kinds=['black'])
    assert (only.found, only.missed) == (1, 1) and '1 of 2 visits' in str(only)


def test_class_folders_of_a_film(tmp_path):
    film = bear_film_path(1, 30)
    truth = pd.read_csv(film.with_suffix('.csv'))
    folder = save_labelled([film], tmp_path/'f')
    at = [(o.parent.name, float(o.stem.split('_')[1])) for o in folder.glob('*/*.jpg')]
    assert {o for o, _ in at} == {*truth.kind, 'nothing'} and len(at) > 20
    for label, t in at:
        there = truth[(truth.begins <= t) & (t <= truth.ends)].kind
        assert list(there) == ([] if label == 'nothing' else [label])
        if label == 'nothing': assert not ((truth.begins - .5 < t) & (t < truth.ends + .5)).any()
    assert 'there already' in error_text(save_labelled, [film], tmp_path/'f')


# --- messages

@contextmanager
def other_program(status=200, headers=(), hangs=False):
    "Another program, and what it was told"
    got, free = [], threading.Event()
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args): pass
        def do_GET(self): got.append('GET')
        def do_POST(self):
            got.append(json.loads(self.rfile.read(int(self.headers['Content-Length']))))
            if hangs: free.wait(LONG)
            self.send_response(status)
            for o in headers: self.send_header(*o)
            self.end_headers()
    server = ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try: yield f'http://127.0.0.1:{server.server_address[1]}/secret-key', got
    finally: free.set(); server.shutdown(); server.server_close()


def test_watching_tells_another_program(tmp_path):
    film = write(tmp_path/'a.mp4', [True]*4 + [False]*6 + [True]*4)
    with other_program() as (url, got):
        log = PredictionLog(tmp_path/'log.db')
        alarms = [*watch(Bright(), film, ['black'], log, post=Post(url))]
    assert len(alarms) == 2 and len(got) == 1  # the second is held back
    assert {*got[0]} == {'time', 'source', 'label', 'probability', 'alarm', 'held_back'}
    assert (got[0]['source'], got[0]['label'], got[0]['alarm'], got[0]['held_back']) == ('a.mp4', 'black', 3, 0)


def test_the_limit_holds_by_the_clock():
    now, told = [0.], []
    with other_program() as (url, got):
        post = Post(url, every=60, clock=lambda: now[0], tell=told.append)
        for now[0] in 0, 1, 59, 60, 61, 200: post(dict(n=now[0])); post.finish()
    assert [(o['n'], o['held_back']) for o in got] == [(0, 0), (60, 2), (200, 1)] and not told


WRONG = [dict(status=500), dict(status=404), dict(hangs=True), 'refused',
         dict(status=302, headers=[('Location', 'file:///etc/passwd')]),
         dict(status=307, headers=[('Location', '/elsewhere')])]

@pytest.mark.parametrize('how', WRONG)
def test_what_goes_wrong_with_a_message_is_one_sentence(how, tmp_path):
    film, told = write(tmp_path/'a.mp4', [True]*4), []
    with other_program(**({} if how == 'refused' else how)) as (url, got):
        if how == 'refused': url = f'http://127.0.0.1:{free_port()}/secret-key'
        post = Post(url, timeout=.5, tell=told.append)
        assert len([*watch(Bright(), film, ['black'], post=post)]) == 1
        post.thread.join(LONG)
    assert len(told) == 1 and 'The watching goes on' in told[0] and 'secret' not in told[0] and '\n' not in told[0]
    assert len(got) == (how != 'refused') and 'GET' not in got and post.held == 1


def test_another_that_hangs_stops_nobody():
    with other_program(hangs=True) as (url, got):
        post = Post(url, every=0, timeout=LONG, tell=lambda said: None)
        assert post({}) and not any(post({}) for _ in range(100))
        assert post.held == 100 and post.thread.is_alive() and threading.active_count() < 20


# --- the command

def typed(*words, **kw):
    return subprocess.run([sys.executable, '-W', 'error', '-m', 'bearclf', 'watch', *map(str, words)], text=True,
                          capture_output=True, encoding='utf-8', timeout=LONG, **kw)


@pytest.fixture(scope='module')
def teddies(fresh_bears, tmp_path_factory):
    "A film of drawn bears that the demo model knows: a grizzly, and then a teddy"
    photos = [Image.open(fresh_bears[o][0]).convert('RGB') for o in ('grizzly', 'teddy')]
    return write(tmp_path_factory.mktemp('film')/'мишки.mp4', [o for o in photos for _ in range(8)])


def test_the_command(demo_model, teddies, tmp_path):
    with other_program() as (url, got):
        res = typed(demo_model, teddies, '--alarm', 'teddy', '--log', tmp_path/'log.db', '--keep-days', 1,
                    '--post', url)
    assert res.returncode == 0 and not res.stderr, res.stderr
    first, alarm, last = res.stdout.splitlines()
    assert first.startswith('Not for safety') and 'мишки.mp4 at 0:05.0: teddy' in alarm and 'alarms: 1' in last
    log = PredictionLog(tmp_path/'log.db', keep_days=1)
    assert log.n == 16 and [o['id'] for o in log.open_alarms()] == [11] and log.photo(11)
    assert [o['label'] for o in got] == ['teddy']
    res = typed(demo_model, teddies, '--alarm', 'teddy', '--alarm', 'grizzly', '--json', '--agree', 1, '--of', 1)
    said = [*map(json.loads, res.stdout.splitlines())]
    assert [o['label'] for o in said] == ['grizzly', 'teddy'] and said[0]['number'] is None
    assert 'Not for safety' in res.stderr and res.returncode == 0


@pytest.mark.parametrize('words, said', [
    ([], '--alarm black'), (['--alarm', 'wolf'], "knows no 'wolf'"),
    (['--alarm', 'teddy', '--agree', '9'], 'cannot agree'), (['--alarm', 'teddy', '--every', '0'], 'more than 0'),
    (['--alarm', 'teddy', '--keep-days', '3'], '--log'),
    (['--alarm', 'teddy', '--post', 'file:///etc/passwd'], 'http:// or https://')])
def test_the_command_refuses_in_one_sentence(words, said, demo_model, teddies, child):
    from bearclf.cli import main
    res = child(main, ['watch', str(demo_model), str(teddies), *words]).finish()
    assert res.returncode == 2 and said in res.stderr and 'Traceback' not in res.stderr
    assert len(res.stderr.strip().splitlines()) == 1


@pytest.mark.skipif(os.name == 'nt', reason='there is no SIGINT for another process')
def test_ctrl_c_ends_it_well(demo_model, tmp_path):
    heard = lambda: signal.signal(signal.SIGINT, signal.default_int_handler)
    with Webcam([[30, 200]*5000]) as cam:
        proc = subprocess.Popen([sys.executable, '-m', 'bearclf', 'watch', str(demo_model), cam.url, '--alarm', 'teddy',
                                 '--log', str(tmp_path/'log.db'), '--every', '.05'], text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=heard)
        began = time.monotonic()
        while not ((tmp_path/'log.db').exists() and PredictionLog(tmp_path/'log.db').n > 2):
            assert time.monotonic() - began < LONG and proc.poll() is None, proc.communicate()
            time.sleep(.1)
        proc.send_signal(signal.SIGINT)
        out, err = proc.communicate(timeout=LONG)
    assert proc.returncode == 0 and 'Traceback' not in err
    assert 'Stopped.' in out and f'looked at: {PredictionLog(tmp_path/"log.db").n}' in out and 'secret' not in out + err


# --- how often it is right

@pytest.fixture(scope='module')
def keeper(tmp_path_factory):
    "Trains a model of the clearing on so many films that none of the tests looks at"
    from bearclf.ship.export import export_classifier
    from bearclf.ship.predict import load_classifier
    from bearclf.train.features import precomputed_learner
    def trained(n, seconds):
        home = tmp_path_factory.mktemp('clearing')
        folder = save_labelled([bear_film_path(100 + o, seconds) for o in range(n)], home/'frames')
        learn = precomputed_learner(folder, 'efficientnet_lite0', start='imagenet', groups='^(.+)_')
        return load_classifier(export_classifier(learn, home/'model'))
    return trained


@pytest.mark.exhaustive
@pytest.mark.parametrize('films, found, needless', [((4, 30), (18, 14), (25, 6)), ((6, 60), (18, 18), (10, 4))])
def test_what_is_found_in_films_of_a_minute(films, found, needless, keeper):
    """The figures of the notebook: 19 visits in five films, by one frame and by three of five.

    At least so many are found by each; needless alarms are at least so many with one, and at most so many with three"""
    clf, became = keeper(*films), {}
    for seed in range(11, 16):
        film, said = bear_film_path(seed), []
        truth = pd.read_csv(film.with_suffix('.csv'))
        [*watch(clf, film, BEARS, each=lambda *o: said.append(o))]
        for k, of in (1, 1), (3, 5):
            agree = Agreement(BEARS, k, of)
            alarms = [(t, label) for t, pred in said if (label := agree(pred))]
            became.setdefault(k, []).append(match_alarms(alarms, truth))
            there = lambda t: any(o.begins - 1 <= t <= o.ends + 1 for o in truth.itertuples())
            assert all(there(t) for t, _ in alarms)  # a bear by a wrong name, but none where nothing is
    count = {k: [sum(getattr(o, what) for o in them) for what in ('found', 'missed', 'false', 'again')]
             for k, them in became.items()}
    assert sum(count[1][:2]) == sum(count[3][:2]) == 19
    assert count[1][0] >= found[0] and count[3][0] >= found[1], count
    assert sum(count[1][2:]) >= needless[0] and sum(count[3][2:]) <= needless[1], count
