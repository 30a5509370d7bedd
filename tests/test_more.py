"The further lessons, in nbs/more: what is said of them elsewhere, they do"
import json, re

from helpers import top

more = top/'nbs/more'


def cells(file): return json.loads(file.read_text(encoding='utf-8'))['cells']
def source(cell): return ''.join(cell['source'])
def printed(file): return ''.join(''.join(o['text']) for c in cells(file) for o in c.get('outputs', ()) if 'text' in o)


# 16 since the book

def table():
    "What the cells of each row of the table in nbs/changes.ipynb say in the typewriter's letters"
    rows = re.findall(r'^\|(.*)\|$', '\n'.join(map(source, cells(top/'nbs/changes.ipynb'))), re.M)[2:]
    spans = lambda o: [m[1] or m[2] for m in re.finditer(r'``(.+?)``(?!`)|`(.+?)`', o)]
    return [[spans(o) for o in re.split(r' \| ', row)] for row in rows]


def test_since_the_book_runs_every_row():
    "Each call of the table stands in the lesson's outputs, which have a line for what came of it; so does each error"
    lesson = more/'16_since_the_book.ipynb'
    said, text, rows = printed(lesson), '\n'.join(map(source, cells(lesson))), table()
    assert len(rows) == 28 and all(len(o) == 3 and o[0] for o in rows)
    only_told = {'!pip install -Uqq fastbook', '!pip install voila', '.py'}  # two would change what is installed
    assert [o for o in only_told if o not in text] == []
    calls = [o.removeprefix('!').split('...')[0] for row in rows for o in row[0] if o not in only_told]
    assert len(calls) > 38 and [o for o in calls if o not in said] == []
    errors = [re.sub(r'^(\w+\.)?(\w+Warning: )?', '', o)[:40] for row in rows for o in row[1]
              if re.search(r'(Error|Warning): |not found|has no attribute|insecure', o)]
    assert len(errors) > 15 and [o for o in errors if o not in said] == []


def test_each_call_of_the_lesson_has_a_line_for_what_came_of_it():
    said = printed(more/'16_since_the_book.ipynb')
    n = sum(map(int, re.findall(r'(?:runs|stops|warns) +(\d+)$', str_table(), re.M)))
    assert n == len(re.findall(r'^    (runs|warns|stops)', said, re.M)) > 45


def str_table():
    "The lesson's last table, as text"
    outputs = [o for c in cells(more/'16_since_the_book.ipynb') for o in c.get('outputs', ()) if 'data' in o]
    return ''.join(outputs[-1]['data']['text/plain'])
