"""The API pages, made from the notebooks with nbdev and nbconvert; Quarto is not needed.

python nbs/docs.py   writes one HTML page for each notebook into _docs
"""
import subprocess, sys, sysconfig
from pathlib import Path

import nbformat
from nbconvert import HTMLExporter
from readme import Directives, top

scripts, out = Path(sysconfig.get_path('scripts')), top/'_docs'


def links(current, names):
    "The row of links at the head of each page"
    row = ' · '.join(f'**{o}**' if o == current else f'[{o}]({o}.html)' for o in names)
    return nbformat.v4.new_markdown_cell(row)


def standard(cell):
    "`cell` without what nbdev notes in it, and without the source that it does not want shown"
    if '#| echo: false' in cell.source: cell.source = ''
    kept = {k: v for k, v in cell.items() if k in ('cell_type', 'id', 'source', 'outputs', 'execution_count')}
    return nbformat.NotebookNode(kept, metadata={})


def main():
    subprocess.run([scripts/'nbdev-proc-nbs', '--n-workers', '1', '--force'], cwd=top, check=True)
    files = [o for o in sorted((top/'_proc').glob('*.ipynb')) if o.stem != 'bear_classifier']
    out.mkdir(exist_ok=True)
    for file in files:
        nb = nbformat.read(file, as_version=4)
        nb.cells = [links(file.stem, [o.stem for o in files]), *map(standard, nb.cells)]
        page, _ = HTMLExporter(preprocessors=[Directives], embed_images=True).from_notebook_node(nb)
        (out/f'{file.stem}.html').write_text(page, encoding='utf-8')
    print(f'{len(files)} pages are in {out}; begin with {out/"index.html"}.')


if __name__ == '__main__': sys.exit(main())
