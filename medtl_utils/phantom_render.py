"""The physics of the simulator: from the numbers of `phantom.draw_view` to pictures and masks.

Five steps, each a function: tissue, lesion, attenuation, speckle, compression. Tensors are float32
of shape (B, n, n), or broadcast to it: B views on a grid of n rows (depth) and n columns (beams).
Lengths are in mm, echo strengths in dB.

Speckle: Wagner et al., "Statistics of speckle in ultrasound B-scans", IEEE Trans. SU 30 (1983) 156.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from .phantom_fields import (
    basis,
    bell,
    bent,
    blur_matrices,
    downsample,
    lookup,
    mean_blur,
    smooth_step,
    texture,
)

WHITE_DB = 9.0  # an echo this strong is white
TEXTURES = 5  # layers of noise before the looks: lobules, fine, ligaments, sheets, gaps in them


@dataclass
class Scene:
    """What the steps share: the views' numbers and the tissue's random textures."""

    p: dict[str, torch.Tensor]  # the numbers of `draw_view`, (B, 1, 1) each
    n: int  # rows = columns of the grid
    mm: torch.Tensor  # one grid step in mm, (B, 1, 1)
    x: torch.Tensor  # lateral position in mm, (B, 1, n)
    y: torch.Tensor  # depth in mm, (B, n, 1)
    noise: torch.Tensor  # white noise (B, TEXTURES + 2 looks, n, n)
    tables: dict[str, torch.Tensor]  # "radius", "edge", "calcs", "tgc" of `draw_view`
    bumps: torch.Tensor  # bending of the layers, about unit variance
    lobules: torch.Tensor  # texture of the lobules, unit variance
    fine: torch.Tensor  # fine texture, unit variance
    strands: torch.Tensor  # long, flat texture of the ligaments, unit variance
    sheets: torch.Tensor  # the same, longer and flatter; bent with the layers
    blotches: torch.Tensor  # texture of heterogeneous lesions, unit variance
    gaps: torch.Tensor  # where the sheets shine, unit variance
    clouds: torch.Tensor  # coarse texture of the gland, unit variance
    depth: torch.Tensor  # depth below the bent layers, mm


@torch.no_grad()
def render(
    views: list[dict], size: int, device: str | torch.device = "cpu"
) -> tuple[torch.Tensor, torch.Tensor]:
    """Turn drawn views into pictures.

    Returns images, torch uint8 (B, 1, size, size), 0 = black; and masks, torch bool
    (B, size, size), the lesion's core.
    """
    scene = _scene(views, device)
    db = _tissue(scene)
    db, core, cover = _lesion(scene, db)
    db = _attenuation(scene, db, cover)
    intensity = _speckle(scene, db)
    grey = _compression(scene, intensity)
    grey, core = _probe_and_marks(scene, grey, core.float())
    down = downsample(scene.n, size).to(device)
    grey, core = down @ grey @ down.T, down @ core @ down.T
    images = (grey * 255).round().clamp(0, 255).to(torch.uint8)[:, None]
    return images.cpu(), (core > 0.5).cpu()


def _scene(views: list[dict], device: str | torch.device) -> Scene:
    """Put the views' numbers on the device, and make the textures that several steps use."""
    stack = lambda key: torch.from_numpy(np.stack([view[key] for view in views])).to(device)
    p = dict(zip(views[0]["names"], stack("numbers").T[:, :, None, None]))
    n = views[0]["noise"].shape[-1]
    noise = torch.zeros(len(views), max(len(view["noise"]) for view in views), n, n)
    for target, view in zip(noise, views):  # scanners differ in their number of looks
        target[: len(view["noise"])] = torch.from_numpy(view["noise"])
    noise = noise.to(device)
    mm = p["field_mm"] / n
    rows = torch.arange(n, device=device, dtype=torch.float32) + 0.5
    y, x = rows[None, :, None] * mm, rows[None, None, :] * mm
    bumps = basis(n, 4).to(device) @ stack("bumps") @ basis(n, 5).to(device).T
    lobules = texture(noise[:, 0], p["lobule_mm"] / mm / 2.5, p["lobule_mm"] / mm)
    fine = texture(noise[:, 1], 0.6 / mm, 0.9 / mm)
    tilt = p["bend_mm"] * bumps + p["slope"] * (x - p["field_mm"] / 2)
    strands = bent(texture(noise[:, 2], 1.2 / mm, 3.5 / mm), tilt / p["field_mm"])
    sheets = texture(noise[:, 3], p["sheet_mm"] / mm / 2, p["sheet_long_mm"] / mm)
    sheets = bent(sheets, tilt / p["field_mm"])
    gaps = texture(noise[:, 4], 2.5 / mm, 5.0 / mm)
    clouds = texture(noise[:, 2].flip(1), 2.5 / mm, 4.0 / mm)
    blotches = texture(noise[:, 4].flip(1), 1.2 / mm, 1.6 / mm)
    depth = y + tilt + 0.5 * lobules
    tables = {key: stack(key) for key in ("radius", "edge", "calcs", "tgc")}
    textures = (bumps, lobules, fine, strands, sheets, blotches, gaps, clouds)
    return Scene(p, n, mm, x, y, noise, tables, *textures, depth)


def _tissue(scene: Scene) -> torch.Tensor:
    """Step 1. Echo strength of skin, fat with ligaments, gland, fascia and muscle, (B, n, n) in dB.

    Each layer takes over from the one above at its upper face.
    """
    p, y, depth, lobules = scene.p, scene.y, scene.depth, scene.lobules
    gland_mm, muscle_mm = p["fat_mm"], p["fat_mm"] + p["gland_mm"]  # upper faces
    in_gland = smooth_step((depth - gland_mm) / 0.5)
    in_muscle = smooth_step((depth - muscle_mm) / 0.4)
    ligaments = p["ligament_db"] * bell(scene.strands / 0.18) * (1 - in_muscle)
    gland = in_gland * (p["gland_db"] + p["lobule_db"] * lobules + p["cloud_db"] * scene.clouds)
    db = -12 + gland + p["grain_db"] * scene.fine + ligaments * (1 - 0.4 * in_gland)

    wave = torch.sin(2 * torch.pi * depth / p["striae_mm"] + 1.5 * lobules)
    muscle = (
        -10 + p["striae_db"] * wave + (0.5 * p["lobule_db"] * lobules + p["grain_db"] * scene.fine)
    )
    db = db * (1 - in_muscle) + in_muscle * muscle

    # a fascia shines where it faces the beam
    fascia = p["fascia_db"] * smooth_step(1.5 * scene.bumps + 0.8 * lobules)
    for face in (gland_mm, muscle_mm, p["deep_mm"]):
        db = db + fascia * bell((depth - face) / 0.45)
    # so do sheets of connective tissue, most of them below the fat
    shining = smooth_step(2 * scene.gaps + 1) * (0.25 + 0.75 * in_gland)
    db = db + p["sheet_db"] * scene.sheets.clamp_min(0) ** 1.3 * shining
    skin = y / p["skin_mm"]
    db = db + 5 * bell(skin**2) + 5 * bell((skin - 1.1) / 0.2) + 4 * bell(skin / 0.3)
    echoes = torch.cos(torch.pi * y / p["reverb_mm"]).square().square().square()
    db = db + p["reverb_db"] * echoes * torch.exp(-y / 4)
    return _fat_lobule(scene, db)


def _fat_lobule(scene: Scene, db: torch.Tensor) -> torch.Tensor:
    """A fat lobule like a lesion, in the images that have one."""
    p = scene.p
    if p["lobule_like"].any():
        u = (scene.x - p["fat_x"]) / p["fat_half_x"].clamp_min(1)
        v = (scene.y - p["fat_y"]) / p["fat_half_y"].clamp_min(1)
        away = u**2 + v**2
        dark_in_a_capsule = bell(away) - 0.8 * bell((away - 1.3) / 0.35)
        db = db + p["lobule_like"] * dark_in_a_capsule
    return db


def _lesion(scene: Scene, db: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Step 2. Draw the lesion. Returns the echo map, the core (0 or 1) and the cover (0..1).

    In polar coordinates around its centre, with r = 1 on the ellipse, it is lesion inside the
    contour R(angle); beyond, it fades within the edge width L(angle).
    """
    p, tables = scene.p, scene.tables
    r, angle = _polar(scene)
    outside = r - lookup(tables["radius"], angle)
    width = lookup(tables["edge"], angle)
    core = p["lesion"] * (outside < 0)
    cover = p["lesion"] * bell(outside.clamp_min(0) / width)

    db = db + p["lesion"] * p["halo_db"] * bell((outside - 0.22) / 0.17)
    inner = p["inner_db"] * (scene.fine + 0.5 * scene.lobules) + p["blotch_db"] * scene.blotches
    db = db * (1 - cover) + cover * (-8 + p["echo_db"] + inner)
    db = db + p["lesion"] * p["rim_db"] * bell(outside / 0.06)

    spot_x, spot_y, sigma, strength = tables["calcs"][:, None].unbind(-1)  # (B, 1, 14) each
    down = bell((scene.y - spot_y) / (2**0.5 * sigma))
    across = bell((scene.x.transpose(1, 2) - spot_x) / (2**0.5 * sigma))
    db = db + p["lesion"] * (down * strength) @ across.transpose(1, 2)
    return db, core, cover


def _polar(scene: Scene) -> tuple[torch.Tensor, torch.Tensor]:
    """Radius (1 on the lesion's tilted, bent ellipse) and angle (-pi..pi), (B, n, n) each."""
    p = scene.p
    dx, dy = scene.x - p["x"], scene.y - p["y"]
    cos, sin = torch.cos(p["tilt"]), torch.sin(p["tilt"])
    u = (dx * cos + dy * sin) / p["half_x"] + p["warp"] * scene.bumps
    v = (dy * cos - dx * sin) / p["half_y"] + p["warp"] * scene.bumps.flip(2)
    return torch.hypot(u, v), torch.atan2(v, u)


def _attenuation(scene: Scene, db: torch.Tensor, cover: torch.Tensor) -> torch.Tensor:
    """Step 3. Losses along the beam: a sum over depth, so only what lies behind changes."""
    p, x, y, mm, n = scene.p, scene.x, scene.y, scene.mm, scene.n
    # dB per mm inside the lesion; a beam is about a millimetre wide, so shadows have soft sides
    rate = p["posterior_times"] * p["posterior_db"] * cover / (2 * p["half_y"])
    rate = rate @ mean_blur(p["beam_mm"] / mm, n)
    if p["rib_db"].any():
        rib = p["rib_db"] * bell((x - p["rib_x"]) / 5)
        db = db + 0.6 * rib * bell((y - p["rib_y"]) / 0.6)
        rate = rate - rib * bell((y - p["rib_y"] - 1) / 0.6)
    at_sides = bell(((x - p["x"]).abs() - p["half_x"]) / 0.7)
    edge_shadows = at_sides * smooth_step((y - p["y"]) / 0.5)
    db = db + torch.cumsum(rate, 1) * mm - p["lesion"] * p["edge_shadow_db"] * edge_shadows
    db = db - p["contact_db"] * bell((x - p["contact_x"]) / p["contact_mm"])

    relative = y / p["field_mm"]
    uneven = torch.cumsum(scene.clouds.clamp_min(0), 1) / n
    db = db - p["uneven_db"] * uneven
    # the machine amplifies depth by depth, never quite right
    rows, columns = basis(n, 5).to(db.device), basis(n, 3).to(db.device)
    amplified = rows @ scene.tables["tgc"] @ columns.T
    return db - p["loss_db"] * relative**1.5 + p["tgc_db"] * amplified + p["gain_db"]


def _speckle(scene: Scene, db: torch.Tensor) -> torch.Tensor:
    """Step 4. Intensity: noise times the map, blurred by the point-spread function, looks averaged.

    The blur across the beams is wider away from the focus.
    """
    p, mm, n = scene.p, scene.mm, scene.n
    along = blur_matrices(p["axial_mm"] / mm, n)[:, None]
    across = blur_matrices(p["lateral_mm"] / mm, n)[:, None].transpose(-1, -2)
    wider = blur_matrices(p["defocus"] * p["lateral_mm"] / mm, n)[:, None].transpose(-1, -2)
    speckle = along @ (scene.noise[:, TEXTURES:] * torch.pow(10.0, db / 20)[:, None])
    off_focus = ((scene.y - p["focus_mm"]).abs() / (0.6 * p["field_mm"])).clamp(0, 1)[:, None]
    echoes = (speckle @ across) * (1 - off_focus) + (speckle @ wider) * off_focus
    intensity = echoes.square().sum(1) / (2 * p["looks"])
    # speckle reduction: towards the mean intensity under the same point-spread function
    power = torch.pow(10.0, db / 10)
    mean = along[:, 0].square() @ power @ across[:, 0].square()
    return (
        intensity.clamp_min(1e-9) ** (1 - p["smoothing"]) * mean.clamp_min(1e-9) ** p["smoothing"]
    )


def _compression(scene: Scene, intensity: torch.Tensor) -> torch.Tensor:
    """Step 5. Grey values 0..1: WHITE_DB is white, WHITE_DB - range_db is black."""
    p = scene.p
    echo = 10 * torch.log10(intensity + 1e-9)
    wanted = WHITE_DB - p["range_db"] * (1 - p["exposure"])
    echo = echo + (p["exposure"] > 0) * (wanted - echo.mean((1, 2), keepdim=True))
    grey = (1 + (echo - WHITE_DB) / p["range_db"]).clamp(0, 1) ** p["gamma"]
    return p["pedestal"] + (1 - p["pedestal"]) * grey


def _probe_and_marks(
    scene: Scene, grey: torch.Tensor, core: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Bend the pictures of curved probes, masks too, and draw a reader's calipers."""
    p = scene.p
    curved = p["convex"].flatten() > 0
    if curved.any():
        pictures = torch.stack([grey, core], 1)[curved]
        grey[curved], core[curved] = _sector(pictures, p["convex"][curved]).unbind(1)
    if p["calipers"].any():
        grey = torch.maximum(grey, p["calipers"] * _calipers(scene))
    return grey, core


def _sector(pictures: torch.Tensor, half: torch.Tensor) -> torch.Tensor:
    """Bend (B, C, n, n) pictures of parallel beams into the sector of a curved probe.

    `half`: (B, 1, 1) half opening in radians. Outside the sector it is black. Depth is kept along
    each beam, so a shadow still lies behind what casts it, but beams spread.
    """
    n = pictures.shape[-1]
    at = (torch.arange(n, device=pictures.device) + 0.5) / n
    z, x = at[None, :, None], at[None, None, :] - 0.5
    apex = (1 / torch.sin(half) - 1) / 2  # above the skin, in heights: keeps the mean width
    beam = torch.atan2(x, z + apex) / half
    depth = torch.hypot(x, z + apex) - apex
    grid = torch.stack([beam, 2 * depth - 1], -1)
    return torch.nn.functional.grid_sample(pictures, grid, align_corners=False)


def _calipers(scene: Scene) -> torch.Tensor:
    """(B, n, n) in 0..1: crosses of 2.6 mm at both ends of the lesion's width."""
    p, crosses = scene.p, []
    for side in (-1.0, 1.0):
        dx = (scene.x - p["x"] - 1.05 * side * p["half_x"]).abs()
        dy = (scene.y - p["y"]).abs()
        crosses += [bell(dx / 0.4) * (dy < 1.3), bell(dy / 0.4) * (dx < 1.3)]
    return torch.stack(crosses).amax(0)
