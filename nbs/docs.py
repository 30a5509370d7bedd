"""The API pages, made from the notebooks with nbdev and nbconvert; Quarto is not needed.

python nbs/docs.py   writes one HTML page for each notebook into _docs, and beside them the demo's page
"""
import re, subprocess, sys, sysconfig
from pathlib import Path

import nbformat
from nbconvert import HTMLExporter
from nbconvert.preprocessors import Preprocessor
from readme import Directives, top

from bearclf.ship.hosted import write_folder
from bearclf.ship.predict import demo_model

scripts, out = Path(sysconfig.get_path('scripts')), top/'_docs'


def links(current, files):
    "The links at the head of each page: a row for the course, and one for the library"
    link = lambda o: f'**{o}**' if o == current else f'[{o}]({o}.html)'
    row = lambda found: ' · '.join(link(o.stem) for o in files if ('library' in o.parts) == found)
    demo = '**Try it: [a page that tells bears apart](demo/), in your browser alone.**\n\n'*(current == 'index')
    return nbformat.v4.new_markdown_cell(f'{demo}Course: {row(False)}\n\nLibrary: {row(True)}')


def standard(cell):
    "`cell` without what nbdev notes in it; what its `show_doc` says stands as text"
    said = [o.data['text/markdown'] for o in cell.get('outputs', []) if 'text/markdown' in o.get('data', {})]
    if 'show_doc(' in cell.source and said: return nbformat.v4.new_markdown_cell(said[0])
    kept = {k: v for k, v in cell.items() if k in ('cell_type', 'id', 'source', 'outputs', 'execution_count')}
    return nbformat.NotebookNode(kept, metadata={})


class ToPages(Preprocessor):
    "Links that lead from page to page"
    def preprocess_cell(self, cell, resources, index):
        cell.source = re.sub(r'\]\((?:[\w.]+/)*(\w+)\.ipynb(#[^)]*)?\)', r'](\1.html\2)', cell.source)
        return cell, resources


def main():
    exporter = HTMLExporter(preprocessors=[Directives, ToPages], embed_images=True,
                            exclude_input_prompt=True, exclude_output_prompt=True)
    subprocess.run([scripts/'nbdev-proc-nbs', '--n-workers', '1', '--force'], cwd=top, check=True)
    files = [o for o in sorted((top/'_proc').rglob('*.ipynb'), key=lambda o: o.name)
             if o.stem not in ('page', 'monitor') and o.parent != top/'_proc/clean']
    out.mkdir(exist_ok=True)
    for file in files:
        nb = nbformat.read(file, as_version=4)
        nb.cells = [links(file.stem, files), *map(standard, nb.cells)]
        about = {'name': f'bearclf: {file.stem}', 'path': str(top/'nbs')}
        page, _ = exporter.from_notebook_node(nb, {'metadata': about})
        (out/f'{file.stem}.html').write_text(page, encoding='utf-8')
    write_folder(demo_model(), out/'demo', 'Black, grizzly or teddy?')
    print(f'{len(files)} pages are in {out}; begin with {out/"index.html"}.')


if __name__ == '__main__': sys.exit(main())
