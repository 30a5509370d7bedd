"Links between the notebooks lead to what they promise"
import json, re
from pathlib import Path

nbs = Path(__file__).resolve().parents[1]/'nbs'


def cells(file): return json.loads(file.read_text(encoding='utf-8'))['cells']


def anchor(heading):
    "What Jupyter makes of a heading"
    return re.sub(r'\[([^\]]*)\]\([^)]*\)', r'\1', heading).replace('`', '').replace('**', '').strip().replace(' ', '-')


def sections(file):
    "Anchor -> does a code cell with output stand below the heading, before the next one that is as high or higher?"
    found, above = {}, []
    for c in cells(file):
        text = ''.join(c['source'])
        if c['cell_type'] != 'markdown':
            if c.get('outputs') and not text.startswith('#| hide'): found |= dict.fromkeys((o for _, o in above), True)
            continue
        for marks, heading in re.findall(r'^(#{1,6}) +(.+)$', re.sub('(?ms)^```.*?^```', '', text), re.M):
            above = [o for o in above if o[0] < len(marks)] + [(len(marks), anchor(heading))]
            found.setdefault(anchor(heading), False)
    return found


def links(file):
    "(notebook, anchor) of each link of `file` to a heading"
    text = '\n'.join(''.join(o['source']) for o in cells(file) if o['cell_type'] == 'markdown')
    return [(file.parent/(name or file.name), to) for name, to in re.findall(r'\]\(([\w./-]*\.ipynb|)#([^)]+)\)', text)]


def faults(files):
    return [f'{f.name}: {to.name}#{o}' for f in files for to, o in links(f)
            if not to.is_file() or o not in sections(to)]


def questions(file):
    "Question -> (notebook, anchor) of the links in its answer"
    found = {}
    for c in cells(file):
        text = ''.join(c['source'])
        for said in re.findall(r'(?ms)^\*\*(\d+)\. .*?</details>', text): assert said not in found; found[said] = []
        for n, answer in re.findall(r'(?ms)^\*\*(\d+)\. .*?(<details>.*?</details>)', text):
            found[n] = [(file.parent/name, to) for name, to in re.findall(r'\]\(([\w./-]+\.ipynb)#([^)]+)\)', answer)]
    return found


def unanswered(file):
    "What is wrong with the questions of `file`; those about the state of the art need a text, the others an output"
    asked = questions(file)
    wrong = [f'{n} has no link' for n, to in asked.items() if not to]
    for n, to in asked.items():
        for notebook, o in to:
            found = sections(notebook).get(o) if notebook.is_file() else None
            if found is None or not found and not 2 <= int(n) <= 8: wrong.append(f'{n} -> {notebook.name}#{o}')
    return wrong


def test_the_check_itself(tmp_path):
    def write(name, *sources):
        made = [dict(cell_type='code', source=o[1:], outputs=[1]) if o[0] == '>' else
                dict(cell_type='markdown', source=o) for o in sources]
        (tmp_path/name).write_text(json.dumps(dict(cells=made)))
    write('a.ipynb', '# A', '## With `code` in it', '> 1', 'text\n\n## Only text\n```\n# no heading\n```', '## Deep',
          '### Deeper', '> 2')
    write('q.ipynb', '**1. What?**\n<details><summary>a</summary>x [see](a.ipynb#With-code-in-it)</details>',
          '**2. Why?**\n<details>y [see](a.ipynb#Only-text)</details>', '**9. Who?**\n<details>[see](a.ipynb#Only-text)'
          '</details>', '**10. How?**\n<details>[see](a.ipynb#Deep) and [see](b.ipynb#A)</details>',
          '**11. When?**\n<details>z</details>', '[here](#Nowhere)')
    a, q = tmp_path/'a.ipynb', tmp_path/'q.ipynb'
    assert sections(a) == {'A': True, 'With-code-in-it': True, 'Only-text': False, 'Deep': True, 'Deeper': True}
    assert unanswered(q) == ['11 has no link', '9 -> a.ipynb#Only-text', '10 -> b.ipynb#A']
    assert faults([a, q]) == ['q.ipynb: b.ipynb#A', 'q.ipynb: q.ipynb#Nowhere']


def test_links_lead_to_headings():
    assert faults(sorted([*nbs.glob('*.ipynb'), *nbs.glob('more/*.ipynb')])) == []


def test_every_question_leads_to_a_cell():
    file = nbs/'09_questions.ipynb'
    assert [*questions(file)] == [str(o) for o in range(1, 28)]
    assert unanswered(file) == []


def test_the_table_of_lessons_is_what_the_lessons_say():
    "Ten rows, in order, with the minutes that stand at the top of each; and README.md stays short"
    text = (nbs.parent/'README.md').read_text(encoding='utf-8')
    rows = re.findall(r'\| \[\w+\]\(nbs/(\d\w+)\.ipynb\) \| (\d+) \|', text)
    lessons = sorted(nbs.glob('[0-9]*.ipynb'))
    said = [re.search(r'\*\*Minutes:\*\* (\d+)', ''.join(cells(o)[0]['source']))[1] for o in lessons]
    assert rows == list(zip([o.stem for o in lessons], said)) and len(rows) == 10
    assert len(text.split()) < 900
