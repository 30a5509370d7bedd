"The log of predictions: nothing answered is lost, nothing is changed, no photo outlives its day, no file acts"
import os, signal, sqlite3, sys, threading
from contextlib import closing
from io import BytesIO

import pytest
from PIL import Image

from bearclf.core import BearclfError, error_text
from bearclf.ship.portable import Prediction
from bearclf.watch.log import Logged, PredictionLog, alarming, model_id, photo_numbers
from helpers import can_fork, seeds, small_disk

DAY = 86400


def pred(label='grizzly', p=.9, **kw): return Prediction(label, p, {label: p, 'other': 1 - p}, True, near=.5, **kw)


@pytest.fixture
def log(tmp_path): return PredictionLog(tmp_path/'log.db')


def photo(colour='brown'): return Image.new('RGB', (64, 48), colour)


def with_gps():
    "A JPEG that says where it was taken"
    im, b = photo(), BytesIO()
    exif = im.getexif()
    exif.get_ifd(0x8825)[1] = 'N'
    exif[0x010f] = 'SecretCamera'
    im.save(b, 'JPEG', exif=exif)
    return b.getvalue()


def test_a_row_says_all_that_was_answered(log):
    n = log.add(pred(sure=False), photo(), 'page', 'abc')
    row = log.table().iloc[0]
    assert (row.id, row.label, row.source, row.model, row.role, row.sure, row.near) == (
        n, 'grizzly', 'page', 'abc', 'live', 0, .5)
    assert row.probability == .9 and 0 < row.brightness < 1 and row.photo == '' and row.said is None
    assert log._ask('SELECT probabilities FROM predictions')[0][0] == '{"grizzly": 0.9, "other": 0.1}'


def test_a_prediction_without_a_distance(log):
    log.add(Prediction('a', 1., {'a': 1.}))
    assert log.table().near.isna().all()


@pytest.mark.parametrize('sql', ['UPDATE predictions SET label="x"', 'DELETE FROM predictions', 'DELETE FROM decisions',
                                 'UPDATE decisions SET said="x"', 'DELETE FROM steps', 'UPDATE steps SET share=1'])
def test_nothing_is_changed(log, sql):
    log.decide(log.add(pred()), 'black')
    with log._db() as db: db.execute('INSERT INTO steps(at, model, share, why) VALUES(1, "m", .1, "w")')
    before = [log._ask(f'SELECT * FROM {o}') for o in ('predictions', 'decisions', 'steps')]
    assert 'only added to' in error_text(log._ask, sql)
    assert [log._ask(f'SELECT * FROM {o}') for o in ('predictions', 'decisions', 'steps')] == before


def test_the_last_decision_counts_and_the_others_stay(log):
    n = log.add(pred(), alarm=True)
    for o in 'black', None, 'teddy', None: log.decide(n, o, 'ranger')
    assert log.table().said.tolist() == ['teddy'] and log.open_alarms() == []
    assert len(log._ask('SELECT * FROM decisions')) == 4


def test_who_only_looks_leaves_the_alarm_open(log):
    n = log.add(pred(), alarm=True)
    log.decide(n, None, 'ranger')
    assert [o['id'] for o in log.open_alarms()] == [n]
    log.decide(n, '', 'ranger')  # none of them
    assert log.open_alarms() == []


def test_no_decision_about_nothing(log):
    assert 'no prediction 7' in error_text(log.decide, 7, 'black')
    assert log._ask('SELECT * FROM decisions') == []


# --- photos

def test_no_photo_unless_told_to(log):
    log.add(pred(), photo())
    assert log.photo(1) is None and not log.photos.exists()


def test_photos_are_gone_on_their_day(tmp_path):
    now = [1e9]
    log = PredictionLog(tmp_path/'log.db', keep_days=2, clock=lambda: now[0])
    first = log.add(pred(), with_gps())
    now[0] += DAY
    second = log.add(pred(), photo())
    copy = log.backup(tmp_path/'copy.db')
    now[0] += 1.01*DAY
    log.expire()
    assert log.photo(first) is None and Image.open(BytesIO(log.photo(second))).size == (64, 48)
    now[0] += DAY
    PredictionLog(tmp_path/'log.db', clock=lambda: now[0])  # whoever opens it, also without a wish to keep any
    assert log.photo(second) is None and log.n == 2
    files = [o for o in tmp_path.rglob('*') if o.is_file()]
    assert {o.name for o in files} <= {'log.db', 'copy.db', 'log.db-wal', 'log.db-shm', '.log.db.lock'}
    assert not any(b'\xff\xd8\xff' in o.read_bytes() for o in files)  # no JPEG in any of them
    assert PredictionLog(copy).photo(second) is None


def test_a_page_that_runs_for_long_forgets_too(tmp_path):
    now = [1e9]
    log = PredictionLog(tmp_path/'log.db', keep_days=1, clock=lambda: now[0])
    for _ in range(3):
        log.add(pred(), photo())
        now[0] += 1.1*DAY
    assert len([*log.photos.glob('*.jpg')]) == 1


def test_what_a_photo_says_of_its_maker_is_not_kept(tmp_path):
    log = PredictionLog(tmp_path/'log.db', keep_days=2)
    kept = log.photo(log.add(pred(), with_gps()))
    assert b'SecretCamera' in with_gps() and b'SecretCamera' not in kept
    assert not Image.open(BytesIO(kept)).getexif()


def test_photos_have_a_limit_and_predictions_go_on(tmp_path):
    log = PredictionLog(tmp_path/'log.db', keep_days=2, most_mb=.002)
    for _ in range(20): log.add(pred(), photo())
    assert log.n == 20 and 0 < sum(o.stat().st_size for o in log.photos.glob('*')) <= 2000


def test_a_row_may_not_lead_to_another_file(tmp_path):
    (tmp_path/'secret.jpg').write_text('secret')
    log = PredictionLog(tmp_path/'log.db', keep_days=1)
    log.add(pred(), photo())
    with log._db() as db:
        db.execute('''INSERT INTO predictions(at, source, model, role, label, probability, sure, probabilities, alarm,
                      photo) VALUES(1, '', '', 'live', 'a', 1, 1, '{}', 0, '../secret.jpg')''')
    assert log.photo(2) is None and log.photo(1)


def test_only_our_own_files_expire(tmp_path):
    log = PredictionLog(tmp_path/'log.db', keep_days=1)
    log.add(pred(), photo())
    for o in '2024-holiday.jpg', '1-x.txt': (log.photos/o).write_text('mine')
    log.clock = lambda: 1e12
    assert log.expire() == 1 and sorted(o.name for o in log.photos.iterdir()) == ['1-x.txt', '2024-holiday.jpg']


def test_a_photo_that_was_being_written_at_a_kill_goes_too(tmp_path):
    log = PredictionLog(tmp_path/'log.db', keep_days=1)
    log.add(pred(), photo())
    left, now, theirs = (log.photos/o for o in ('.0123456789ab.jpg', '.ba9876543210.jpg', '.mine.jpg'))
    for o in left, now, theirs: o.write_bytes(with_gps())
    for o in left, theirs: os.utime(o, (1e9, 1e9))
    log.expire()
    assert not left.exists() and now.exists() and theirs.exists() and log.photo(1)


def test_what_another_process_deletes_meanwhile_is_no_error(tmp_path, monkeypatch):
    log = PredictionLog(tmp_path/'log.db', keep_days=1)
    there = [(9e9, log.photos/'9000000000-0123456789ab.jpg')]  # it was, when the folder was read
    monkeypatch.setattr(PredictionLog, '_kept', lambda self: there)
    assert log.photo(log.add(pred(), photo()))


# --- deaths, two at once, full disks

def writing(file, out, n):
    log = PredictionLog(file)
    for i in range(n):
        k = log.add(pred(label=f'{os.getpid()} {i}'))
        os.write(out, b'%d\n' % k)  # this is the answer


def child(file, n=100_000):
    r, w = os.pipe()
    if pid := os.fork():
        os.close(w)
        return pid, r
    try: writing(file, w, n)
    finally: os._exit(0)


def read_all(r):
    with os.fdopen(r, 'rb') as f: return [int(o) for o in f.read().split(b'\n')[:-1]]


@can_fork
@pytest.mark.parametrize('seed', seeds(20, 4))
def test_a_kill_loses_nothing_that_was_answered(tmp_path, seed):
    import random, time
    pid, r = child(tmp_path/'log.db')
    time.sleep(random.Random(seed).uniform(.02, .4))
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    answered = read_all(r)
    log = PredictionLog(tmp_path/'log.db')
    there = {o for o, in log._ask('SELECT id FROM predictions')}
    assert {*answered} <= there and len(there) <= len(answered) + 1
    assert log._ask('PRAGMA integrity_check') == [('ok',)]
    log.add(pred())


@can_fork
def test_two_writers_lose_nothing(tmp_path):
    both = [child(tmp_path/'log.db', 400) for _ in range(2)]
    found = [read_all(r) for _, r in both]
    for pid, _ in both: os.waitpid(pid, 0)
    log = PredictionLog(tmp_path/'log.db')
    assert log.n == 800 and sorted(sum(found, [])) == [*range(1, 801)]
    labels = [o for o, in log._ask('SELECT label FROM predictions')]
    for pid, _ in both:
        assert [o for o in labels if o.startswith(f'{pid} ')] == [f'{pid} {i}' for i in range(400)]


def test_threads_share_a_log(log):
    def write(): [log.add(pred()) for _ in range(50)]
    threads = [threading.Thread(target=write) for _ in range(8)]
    for o in threads: o.start()
    for o in threads: o.join()
    assert log.n == 400


def test_no_answer_where_the_log_is_full(tmp_path):
    class Model:
        classes, info = ['grizzly'], {}
        def many(self, photos): return [pred() for _ in photos]
    with small_disk(tmp_path/'disk', 256) as disk:
        clf, said = Logged(Model(), PredictionLog(disk/'log.db')), []
        with pytest.raises(BearclfError, match='no room|cannot be written'):
            while True: said.append(clf(photo()))
        clf.log._local.db.close()
        with closing(sqlite3.connect(disk/'log.db')) as db:
            n, = db.execute('SELECT count(*) FROM predictions').fetchone()
        assert n >= len(said) > 10


def test_readers_do_not_wait_for_a_writer(log):
    log.add(pred())
    with log._db() as db:
        db.execute('INSERT INTO steps(at, model, share, why) VALUES(1, "m", 0, "w")')
        assert PredictionLog(log.file).n == 1


# --- files of strangers

@pytest.mark.parametrize('sql', ['CREATE TABLE bears(name)', '''CREATE VIEW predictions AS SELECT 1''',
                                 'CREATE TABLE predictions(id INTEGER PRIMARY KEY)'])
def test_a_database_of_others_stays_as_it_is(tmp_path, sql):
    with closing(sqlite3.connect(tmp_path/'x.db')) as db: db.execute(sql)
    before = (tmp_path/'x.db').read_bytes()
    assert 'no log that bearclf has made' in error_text(PredictionLog, tmp_path/'x.db')
    assert (tmp_path/'x.db').read_bytes() == before and [o.name for o in tmp_path.iterdir()] == ['x.db']


def test_a_log_with_a_trigger_of_somebody_is_not_opened(log):
    with log._db() as db:
        db.execute("CREATE TRIGGER evil AFTER INSERT ON predictions BEGIN INSERT INTO steps(at, model, share, why) "
                   "VALUES(1, new.model, .9, 'trust me'); END")
    assert 'no log that bearclf has made' in error_text(PredictionLog, log.file)


@pytest.mark.parametrize('data', [b'', b'text', b'SQLite format 3\0' + b'x'*2000])
def test_what_is_no_database(tmp_path, data):
    (tmp_path/'x.db').write_bytes(data)
    assert 'x.db' in error_text(PredictionLog, tmp_path/'x.db') and (tmp_path/'x.db').read_bytes() == data


def test_a_damaged_log_is_a_sentence(tmp_path):
    log = PredictionLog(tmp_path/'log.db')
    for _ in range(500): log.add(pred())
    log._local.db.close()
    data = bytearray((tmp_path/'log.db').read_bytes())
    data[len(data)//3:] = os.urandom(len(data) - len(data)//3)
    for o in tmp_path.glob('log.db-*'): o.unlink()
    (tmp_path/'log.db').write_bytes(data)
    def ask():
        other = PredictionLog(tmp_path/'log.db')
        other.table(), other.open_alarms(), other._ask('SELECT * FROM predictions')
    assert 'damaged' in error_text(ask)


def test_a_backup_replaces_nothing(log, tmp_path):
    log.add(pred())
    (tmp_path/'mine').write_text('mine')
    assert 'stays' in error_text(log.backup, tmp_path/'mine') and (tmp_path/'mine').read_text() == 'mine'
    assert PredictionLog(log.backup(tmp_path/'copy.db')).n == 1


# --- a classifier that writes

class Two:
    classes, info = ['black', 'grizzly'], dict(sha256='ab'*32)
    def __init__(self, label='grizzly', **kw): self.label, self.kw = label, kw
    def many(self, photos): return [pred(self.label, **self.kw) for _ in photos]


def test_only_sure_and_familiar_alarms(log):
    assert alarming(pred(), ['grizzly']) and not alarming(pred(), ['black'])
    assert not alarming(pred(sure=False), ['grizzly'])
    assert not alarming(Prediction('grizzly', .9, {}, False), ['grizzly'])
    assert alarming(Prediction('grizzly', .9, {}, None), ['grizzly'])
    Logged(Two(), log, alarms=['grizzly']).many([photo()]*3)
    Logged(Two('black'), log, alarms=['grizzly'])(photo())
    assert len(log.open_alarms()) == 3 and log.n == 4


def test_a_second_model_is_written_beside(log):
    said = Logged(Two(), log, beside=Two('black')).many([photo(), photo('white')])
    assert [o.label for o in said] == ['grizzly']*2
    rows = log._ask('SELECT role, of, label FROM predictions')
    assert rows == [('live', None, 'grizzly')]*2 + [('shadow', 1, 'black'), ('shadow', 2, 'black')]


def test_the_model_has_a_name():
    assert model_id(Two()) == 'ab'*6 and model_id(object()) == 'object'


def test_numbers_tell_night_and_blur():
    from bearclf.practice.drawn import draw_bear
    im = draw_bear('black', seed=1, size=256)
    day, dark, soft = map(photo_numbers, (im, im.point(lambda v: v//3), im.resize((16, 16)).resize(im.size)))
    assert dark['brightness'] < day['brightness']/2 and soft['sharpness'] < .7*day['sharpness']
    assert photo_numbers(Image.new('L', (1, 1)))['sharpness'] == 0
