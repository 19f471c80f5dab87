"""All stored figures of a notebook, one under another: montage.py NB OUT.png"""
import base64, io, re, sys
import nbformat
from PIL import Image
nb = nbformat.read(sys.argv[1], 4)
pics = []
for c in nb.cells:
    for o in c.get("outputs", []):
        d = o.get("data", {})
        for b in re.findall(r'data:image/png;base64,([^"]+)"', str(d.get("text/html", ""))) + ([d["image/png"]] if "image/png" in d else []):
            pics.append(Image.open(io.BytesIO(base64.b64decode(b))).convert("RGB"))
w = max(p.width for p in pics); h = sum(p.height + 8 for p in pics)
out = Image.new("RGB", (w, h), "white"); y = 0
for p in pics:
    out.paste(p, (0, y)); y += p.height + 8
out.save(sys.argv[2]); print(len(pics), out.size)
