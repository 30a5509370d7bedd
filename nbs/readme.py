"""README.md, made from index.ipynb as it is saved, and nbs/clean, the lessons as headings and code alone.

python nbs/readme.py           write README.md, its pictures in nbs/images, and nbs/clean
python nbs/readme.py --check   say whether they are up to date; exit status 1 if not
"""
import re, sys
from pathlib import Path

import nbformat
from nbconvert import MarkdownExporter
from nbconvert.preprocessors import Preprocessor

top, images = Path(__file__).resolve().parent.parent, 'nbs/images'
directive = re.compile(r'^#\|\s*(\w+):?.*\n?', re.M)


class Directives(Preprocessor):
    "Do what nbdev's directives say: leave out what is hidden, and the directives themselves"
    def preprocess(self, nb, resources):
        nb.cells = [o for o in nb.cells if not {'hide', 'default_exp'} & set(directive.findall(o.source))]
        for o in nb.cells: o.source = directive.sub('', o.source)
        nb.metadata['language_info'] = {'name': 'python'}
        return nb, resources


class FromTheTop(Preprocessor):
    "Links that lead to nbs/ from the folder above it"
    def preprocess_cell(self, cell, resources, index):
        cell.source = re.sub(r'\]\((?!nbs/)((?:[\w.]+/)*[\w.]+\.(?:ipynb|png|jpg)[^)]*)\)', r'](nbs/\1)', cell.source)
        return cell, resources


def readme():
    "The text of README.md, and its pictures by file name"
    exporter = MarkdownExporter(preprocessors=[Directives, FromTheTop])
    text, resources = exporter.from_filename(top/'nbs/index.ipynb', {'output_files_dir': images, 'unique_key': 'readme'})
    note = '<!-- Made from nbs/index.ipynb by nbs/readme.py: edit the notebook. -->\n'
    return note + text.strip() + '\n', resources['outputs']


def headings(text):
    "The lines of a markdown cell that are headings"
    return '\n\n'.join(re.findall(r'^#+ .*', re.sub(r'```.*?```', '', text, flags=re.S), re.M))


def clean(file):
    "A lesson without its words and outputs, to be written again from nothing"
    nb = nbformat.read(file, as_version=4)
    for o in nb.cells: o.source = headings(o.source) if o.cell_type == 'markdown' else o.source
    nb.cells = [o for o in nb.cells if o.source and not ('#| hide' in o.source and 'eval: false' not in o.source)]
    for o in nb.cells:
        if o.cell_type == 'code': o.outputs, o.execution_count = [], None
    return nbformat.writes(nb, indent=1, ensure_ascii=False, sort_keys=True).encode() + b'\n'


def main():
    text, pictures = readme()
    files = {top/'README.md': text.encode()} | {top/name: data for name, data in pictures.items()}
    lessons = [o for room in ('nbs', 'nbs/more') for o in (top/room).glob('[0-9]*.ipynb')]
    files |= {top/'nbs/clean'/o.name: clean(o) for o in lessons}
    made = [*(top/images).glob('readme*'), *(top/'nbs/clean').glob('*.ipynb')]
    if '--check' in sys.argv:
        stale = [o for o, data in files.items() if not o.is_file() or o.read_bytes() != data]
        stale += [o for o in made if o not in files]
        for o in stale: print(f'{o.relative_to(top)} is not up to date; run python nbs/readme.py and commit.')
        return bool(stale)
    for o in made: o.unlink()
    for o, data in files.items(): o.parent.mkdir(exist_ok=True); o.write_bytes(data)


if __name__ == '__main__': sys.exit(main())
