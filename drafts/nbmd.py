import nbformat,sys
nb=nbformat.read(sys.argv[1],4)
for i,c in enumerate(nb.cells):
    print(f"--- [{i}] {c.cell_type} {c.id} {c.metadata.get('tags','')}")
    print(c.source)
    if c.cell_type=='code' and len(sys.argv)>2:
        for o in c.outputs:
            t=o.get('text') or (o.get('data',{}).get('text/plain'))
            if t: print('   >>', t[:600])
