import nbformat, subprocess, sys, pathlib
from nbformat.v4 import new_notebook, new_markdown_cell, new_code_cell
RUFF=["/work/main/.venv/bin/python","-m","ruff","format","--line-length","100","-"]
class NB:
    def __init__(self): self.cells=[]; self.n=0
    def md(self,s):
        self.n+=1; c=new_markdown_cell(s.strip()); c.id=f"text-{self.n:03d}"; self.cells.append(c)
    def code(self,s,tag=None,ignore=False,fold=False):
        self.n+=1
        s=subprocess.run(RUFF,input=s.strip()+"\n",capture_output=True,text=True,check=True,cwd="/work/switch").stdout.strip()
        c=new_code_cell(s); c.id=f"code-{self.n:03d}"
        tags=([tag] if tag else [])+(["nbval-ignore-output"] if ignore else [])
        if tags: c.metadata["tags"]=tags
        if fold: c.metadata["jupyter"]={"source_hidden":True}
        self.cells.append(c)
    def write(self,path):
        path=pathlib.Path(path)
        nb=new_notebook(cells=self.cells,metadata={"kernelspec":{"display_name":"Python 3","language":"python","name":"python3"},"language_info":{"name":"python"}})
        if path.exists():   # keep outputs of cells whose source is unchanged (for quick edits of prose)
            old={c.source:c for c in nbformat.read(path,4).cells if c.cell_type=="code"}
            for c in nb.cells:
                if c.cell_type=="code" and c.source in old:
                    c.outputs=old[c.source].outputs; c.execution_count=old[c.source].execution_count
            k=0
            if all(c.cell_type!="code" or c.source in old for c in nb.cells):
                for c in nb.cells:
                    if c.cell_type=="code": k+=1; c.execution_count=k
        nbformat.write(nb,path)
