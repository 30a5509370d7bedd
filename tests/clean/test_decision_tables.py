"Tables of decisions: what a person writes is understood or told with its row, and nothing of it is run or led outside"
import csv, io, os, re, tracemalloc, unicodedata

import pandas as pd, pytest

from bearclf.folder.moves import HOME
from bearclf.clean.decisions import DELETE, KEEP, Decisions, apply_csv
from bearclf.core import BearclfError
from bearclf.practice.drawn import draw_bear
from test_decisions_kill import state

links = pytest.mark.skipif(os.name == 'nt', reason='links need rights there')


@pytest.fixture
def bears(tmp_path):
    "black/0.jpg to teddy/2.jpg"
    for i, kind in enumerate(('black', 'grizzly', 'teddy')):
        (tmp_path/'bears'/kind).mkdir(parents=True)
        for j in range(3): (tmp_path/f'bears/{kind}/{j}.jpg').write_bytes(b'%d%d' % (i, j) * 100)
    return tmp_path/'bears'


@pytest.fixture
def apply(bears):
    "Applies the rows of a table"
    def f(*rows, end='\n', head='file,decision', last='\n', **kw):
        (bears.parent/'t.csv').write_bytes((end.join([head, *rows]) + last).encode('utf-8', 'surrogateescape'))
        return apply_csv(bears, bears.parent/'t.csv', **kw)
    return f


def refused(bears, apply, says, *rows, **kw):
    before = state(bears)
    with pytest.raises(BearclfError, match=says) as e: apply(*rows, **kw)
    assert '\n' not in str(e.value) and state(bears) == before and not (bears/HOME).exists()


@pytest.mark.parametrize('word, what', [(o, KEEP) for o in ('<Keep>', 'keep', 'KEEP', ' Keep ', '<keep>')]
                                       + [(o, DELETE) for o in ('<Delete>', 'delete', 'Delete', '<DELETE>')])
def test_keep_and_delete_in_any_spelling(bears, apply, word, what):
    assert [o[1] for o in apply(f'black/0.jpg,{word}').rows] == [what]
    assert not (bears/word.strip()).exists() and (bears/'black/0.jpg').exists() == (what == KEEP)


@pytest.mark.parametrize('word, near', [('tedy', 'teddy'), ('Grizzly', 'grizzly'), ('<Kep>', ''),
                                        ('blak', 'black'), ('<teddy>', 'teddy'), ('keep>', ''), ('yes', '')])
def test_a_slip_of_the_pen_makes_no_class(bears, apply, word, near):
    near = near or '(black|grizzly|teddy)'
    refused(bears, apply, f"t.csv, row 3: there is no class '{word}'; the nearest is '{near}'.*--new-class.*"
            'Nothing was changed', 'black/0.jpg,<Delete>', f'black/1.jpg,{word}')


def test_a_new_class_if_it_is_said(bears, apply):
    words = {'a/b': "row 2: 'a/b' cannot be the name of a folder", 'Teddy': "There is a class 'teddy' already"}
    for word, says in words.items():
        refused(bears, apply, f'{says}.*Nothing was changed', f'black/0.jpg,{word}', new_class=True)
    assert apply('black/0.jpg,panda', new_class=True).rows[0][2] == 'panda/0.jpg'
    assert apply('black/1.jpg,panda').rows[0][2] == 'panda/1.jpg', 'now there is one'


def test_classes_are_compared_as_they_are_read(bears, apply):
    (bears/unicodedata.normalize('NFD', 'ёж')).mkdir()
    for i, o in enumerate(('NFC', 'NFD')): assert not apply(f'black/{i}.jpg,{unicodedata.normalize(o, "ёж")}').problems
    assert len(list(bears.iterdir())) == 5 and len(list(next(bears.glob('*ж')).iterdir())) == 2


def test_a_class_that_is_called_keep(bears, apply):
    (bears/'Keep').mkdir()
    refused(bears, apply, "row 2: 'keep' may mean <Keep> or the class 'Keep'. Write <Keep>", 'black/0.jpg,keep')
    refused(bears, apply, "row 2: 'Keep' may mean", 'black/0.jpg,Keep')
    assert apply('black/0.jpg,<keep>', 'black/1.jpg,delete').rows[0][1] == KEEP


def test_two_decisions_for_one_photo(bears, apply):
    for rows in (['black/0.jpg,<Delete>', 'black/1.jpg,teddy', 'black/0.jpg,teddy'],
                 ['black/0.jpg,keep', ',', f'{bears}/black/0.jpg,delete']):
        refused(bears, apply, r't.csv: row 2 says .* and row 4 says .* about black/0.jpg. Nothing was changed', *rows)
    assert len(apply('black/0.jpg,<Delete>', './black/0.jpg,delete', 'black/0.jpg,').rows) == 1


@pytest.mark.parametrize('end', ['\n', '\r\n', '\r'])
@pytest.mark.parametrize('last', ['', 'end'])
def test_line_ends(bears, apply, end, last):
    report = apply('black/0.jpg;teddy', ';', 'black/1.jpg;;', 'black/2.jpg;grizzly', end=end, last=last and end,
                   head='\ufefffile;decision;mine')
    assert [o[2] for o in report.rows] == ['teddy/0-2.jpg', 'grizzly/2-2.jpg']


def test_rows_that_make_no_sense_are_told(bears, apply):
    report = apply('black/0.jpg', 'black/1.jpg,delete,really', 'black/\0.jpg,delete', f'{"x"*5000},delete', ',delete',
                   'black/2.jpg,delete')
    assert report.problems[:2] == ['t.csv, row 2: it has too few cells, 1 of 2. It is left alone.',
                                   't.csv, row 3: it has too many cells, 3 of 2. It is left alone.']
    assert len(report.problems) == 4 and 'no name of a file' in report.problems[2] + report.problems[3]
    assert str(report).startswith('1 photo was moved') and not (bears/'black/2.jpg').exists()
    assert all((bears/f'black/{i}.jpg').exists() for i in (0, 1))


@links
def test_photos_outside_stay_where_they_are(bears, apply, tmp_path):
    (tmp_path/'away/black').mkdir(parents=True); (tmp_path/'away/black/x.jpg').write_text('mine')
    (bears/'out').symlink_to(tmp_path/'away'); (bears/'up').symlink_to('..')
    names = ['out/black/x.jpg', 'out/../../away/black/x.jpg', '../away/black/x.jpg', str(tmp_path/'away/black/x.jpg'),
             'up/away/black/x.jpg']
    report = apply(*[f'{o},delete' for o in names])
    assert len(report.problems) == len(names) and (tmp_path/'away/black/x.jpg').read_text() == 'mine'
    assert not list((bears/HOME).rglob('*.jpg'))
    for word, kw in ('out', {}), ('up', dict(new_class=True)):
        with pytest.raises(BearclfError, match=f"'{word}/.*' leads out of the folder by a link.*Nothing was changed"):
            apply(f'black/0.jpg,{word}', **kw)
    assert (bears/'black/0.jpg').exists()


def test_files_that_are_no_table(bears, tmp_path):
    with open(tmp_path/'huge.csv', 'wb') as f: f.truncate(2 << 30)
    (tmp_path/'folder.csv').mkdir()
    says = {'huge.csv': 'it has 2,147 MB', 'folder.csv': 'a link, a folder or a device', 'none.csv': 'cannot be read'}
    if os.name != 'nt':
        os.mkfifo(tmp_path/'fifo.csv'); (tmp_path/'link.csv').symlink_to('huge.csv')
        says |= dict.fromkeys(['fifo.csv', 'link.csv'], 'a link, a folder or a device')
    before = state(bears)
    for name, words in says.items():
        tracemalloc.start()
        with pytest.raises(BearclfError, match=words): apply_csv(bears, tmp_path/name)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 20e6
    assert state(bears) == before and not (bears/HOME).exists()


def test_what_the_report_writes_is_not_run_and_is_found_again(tmp_path):
    from bearclf.cli import _write_report
    path, kinds = tmp_path/'b', ['=1+1', '-bears', '@x', "'quoted", '+7', 'cats;=2']
    for i, o in enumerate(kinds): (path/o).mkdir(parents=True); draw_bear('teddy', i, 32).save(path/o/'-1.jpg')
    table = pd.DataFrame(dict(photo=[path/o/'-1.jpg' for o in kinds], label=kinds, score=.8, loss=-.5,
                              suggestion=kinds[::-1], reasons=[[f'looks like {o}', o] for o in kinds],
                              kinds=[['label']]*6, scores=[[.8]]*6))
    (tmp_path/'out').mkdir()
    _write_report(path, tmp_path/'out', table, set())
    for name in 'issues.csv', 'decisions.csv':
        rows = list(csv.DictReader(io.StringIO((tmp_path/'out'/name).read_text(encoding='utf-8-sig'), newline='')))
        cells = [c for o in rows for v in o.values() for c in re.split('[;\t]', v)]
        assert not [c for c in cells if re.match('[-=+@]', c) and c not in ('-0.500', '+7')] and len(rows) == 6
        assert [o['score'] for o in rows] == ['0.800']*6 and [o.get('loss', '-0.500') for o in rows] == ['-0.500']*6
    report = apply_csv(path, tmp_path/'out/decisions.csv')
    assert [os.path.dirname(o[2]) for o in report.rows] == kinds[::-1] and not report.problems
    Decisions(path).undo()
    (tmp_path/'loose.csv').write_text("file,decision\n'-1.jpg,'=1+1\n'=1.jpg,=1+1\n")
    for o in '-1.jpg', '=1.jpg': (path/o).write_text(o)
    assert [o[2] for o in apply_csv(path, tmp_path/'loose.csv').rows] == ['=1+1/-1-2.jpg', '=1+1/=1.jpg']
