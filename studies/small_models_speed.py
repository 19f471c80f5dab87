"""How fast, how large: the original, pruned and int8, in one run on one thread.

    python -m studies.small_models_speed        (it needs torchao, too: pip install torchao)

Weights do not matter for this, so nothing is trained: the networks of chapter 10 with the source's
weights. All engines take turns, so that whatever else runs on the machine disturbs all alike. The
machine is shared: compare the ratios of one run, not milliseconds of two. Wall time is what a
clinic waits. On a busy machine it flatters short work: that ends before another program gets its
turn. So the ratios ("faster") are those of processor time, which leaves such moments out. Peak
memory (Linux): of a fresh process that loads one network and answers 32 images.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from medtl_utils import replace_head, save_model, source_model
from medtl_utils.phantom import simulate_target
from studies.small_networks import export, pruned, quantised, session
from studies.tables import versions, write_table

SIZE, ROUNDS, SEED, BATCHES = 64, 60, 870, (1, 32)
SHARES = {"original": 0.0, "pruned 30 %": 0.3, "pruned 50 %": 0.5, "pruned 70 %": 0.7}
TORCH, COMPILED = "original, PyTorch", "int8, torchao and inductor"
ORT_PEAK = """
import re, sys
import numpy as np
import onnxruntime as ort
options = ort.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
run = ort.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"]).run
run(None, {"images": np.zeros((32, 1, int(sys.argv[2]), int(sys.argv[2])), np.uint8)})
assert "torch" not in sys.modules
print(re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1])
"""
TORCH_PEAK = """
import re, sys
import torch
from medtl_utils import load_model
torch.set_num_threads(1)
model = load_model(sys.argv[1]).eval()
with torch.no_grad():
    model(model.normalisation(torch.zeros(32, 1, int(sys.argv[2]), int(sys.argv[2]))))
print(re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1])
"""


def work(model: torch.nn.Module) -> tuple[int, int]:
    """(multiply-adds of convolutions and head for one image, parameters)."""
    total, hooks = [], []

    def count(layer, _inputs, output):
        per_place = layer.weight[0].numel()  # multiply-adds for one output number
        total.append(per_place * output.numel())

    for layer in model.modules():
        if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear):
            hooks.append(layer.register_forward_hook(count))
    with torch.no_grad():
        model(torch.zeros(1, 3, SIZE, SIZE))
    for hook in hooks:
        hook.remove()
    return sum(total), sum(p.numel() for p in model.parameters())


def peak(code: str, file: Path) -> float:
    """Peak memory in MB of a fresh process that answers 32 images."""
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code, str(file), str(SIZE)]
    found = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
    return int(found.stdout) / 1024  # Linux tells kilobytes


def torchao_int8(model: torch.nn.Module, images: torch.Tensor, size: int):
    """A function of one batch of `size` images: int8 by torchao, compiled by inductor."""
    import torch._inductor.config as inductor
    import torchao.quantization.pt2e.quantizer.x86_inductor_quantizer as x86
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    inductor.freezing = True
    quantizer = x86.X86InductorQuantizer()
    quantizer.set_global(x86.get_default_x86_inductor_quantization_config())
    batches = [model.normalisation(x) for x in images.split(size)]
    with torch.no_grad():
        prepared = prepare_pt2e(
            torch.export.export(model, (batches[0],), strict=True).module(), quantizer
        )
        for x in batches[: max(1, 64 // size)]:
            prepared(x)
        compiled = torch.compile(convert_pt2e(prepared))
        compiled(batches[0])
    return lambda x: compiled(model.normalisation(x))


def timed(engines: dict, images: torch.Tensor) -> dict[str, dict[int, np.ndarray]]:
    """Engine -> batch size -> (ROUNDS, 2): wall and processor milliseconds; they take turns."""
    found = {name: {size: [] for size in BATCHES} for name in engines}
    for turn in range(ROUNDS + 3):
        for name, by_size in engines.items():
            for size in BATCHES:
                x = images[:size]
                wall, own = time.perf_counter(), time.process_time()
                by_size[size](x)
                spent = time.perf_counter() - wall, time.process_time() - own
                if turn >= 3:  # the first rounds warm the caches
                    found[name][size].append(spent)
    return {k: {s: 1e3 * np.array(v) for s, v in by.items()} for k, by in found.items()}


def made(folder: Path, images: torch.Tensor) -> tuple[dict, dict]:
    """(name -> functions by batch size, name -> row of sizes) for all engines."""
    torch.manual_seed(0)
    model = replace_head(source_model("ultrasound"), 2).eval()
    engines, rows = {}, {}
    for name, share in SHARES.items():
        net = pruned(model, share, SIZE) if share else model
        macs, parameters = work(net)
        graph = export(net, images, folder / "float.onnx")
        small = quantised(graph, images, folder / "int8.onnx")
        for file, label in ((graph, name), (small, "int8" if not share else f"{name}, int8")):
            run = session(file).run
            engines[label] = dict.fromkeys(BATCHES, lambda x, r=run: r(None, {"images": x.numpy()}))
            rows[label] = {"mb": file.stat().st_size / 1e6, "macs": macs, "parameters": parameters}
            rows[label] |= {"peak_mb": peak(ORT_PEAK, file)}
    file = save_model(model, folder / "model.safetensors")
    rows[TORCH] = rows["original"] | {"mb": file.stat().st_size / 1e6}
    rows[TORCH] |= {"peak_mb": peak(TORCH_PEAK, file)}
    engines[TORCH] = dict.fromkeys(BATCHES, lambda x: model(model.normalisation(x)))
    rows[COMPILED] = rows["original"] | {"mb": None, "peak_mb": None}
    engines[COMPILED] = {size: torchao_int8(model, images, size) for size in BATCHES}
    return engines, rows


def main() -> None:
    torch.set_num_threads(1)
    images = simulate_target("train", 60, SIZE, SEED)["images"][:128]
    with TemporaryDirectory() as folder:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(Path(folder) / "inductor")
        engines, rows = made(Path(folder), images)
        with torch.no_grad():
            found = timed(engines, images)
    first = {size: np.median(v, axis=0) for size, v in found["original"].items()}
    for name, by_size in found.items():
        for size, v in by_size.items():
            wall, own = np.median(v, axis=0)
            rows[name] |= {
                f"p50_ms_{size}": wall,
                f"p95_ms_{size}": np.percentile(v[:, 0], 95),
                f"cpu_ms_{size}": own,
                f"faster_wall_{size}": first[size][0] / wall,
                f"faster_{size}": first[size][1] / own,
            }
    table = {
        "command": "python -m studies.small_models_speed",
        "recipe": f"{ROUNDS} rounds in turn, one thread, {SIZE} px, a shared machine; faster: "
        "median processor time of the float32 original in ONNX Runtime, divided by that of a row",
        "seeds": [SEED],
        "versions": versions(),
        "threads": 1,
        "load": os.getloadavg()[0],
        "rows": [{"variant": name} | row for name, row in rows.items()],
    }
    print(f"wrote {write_table('small_models_speed', table)}")


if __name__ == "__main__":
    main()
