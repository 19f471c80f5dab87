"""BrEaST: a radiologist's descriptors of 256 breast-ultrasound scans; the table ships, no images.

Pawłowska et al., "Curated benchmark dataset for ultrasound based breast lesion analysis",
Scientific Data 11 (2024) 148. CC BY 4.0. One woman a row.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from . import shipped

FILE = "breast_lesions_usg.csv"
CARD = (
    "BrEaST: BI-RADS descriptors, age and verified class of 256 women, one scan each (154 benign, "
    "98 malignant, 4 normal); no images. 11 of the source's columns, nothing else changed.\n"
    "Source: Pawłowska et al., Scientific Data 11 (2024) 148, doi 10.1038/s41597-024-02984-z. "
    "Licence: CC BY 4.0. Known faults: a selected set, not a screened population (38 % malignant): "
    "frequencies within a class may be used, prevalence may not. 42 ages are not available. "
    "Consent and ethics: as the article states, not verified here. Do not try to identify anyone. "
    "Never for diagnosis."
)


def load_breast_descriptors(root: str | Path | None = None) -> dict[str, np.ndarray]:
    """The columns of the table, (256,) each, in the source's words.

    case: int. age: float64, years, NaN where not available. The rest is str: shape, margin,
    echogenicity, posterior_features, halo, calcifications ("not applicable" for normal scans),
    birads ("1" to "5", with "4a" to "4c"), verification, classification (benign, malignant,
    normal). `CARD` tells source, licence and faults. Raises DataError where the file is missing
    or was changed.
    """
    rows = shipped.read_table(FILE, None if root is None else Path(root))
    table = {column.lower(): np.array([row[column] for row in rows]) for column in rows[0]}
    age = np.array([row["Age"].replace("not available", "nan") for row in rows], dtype=np.float64)
    return {"case": table.pop("caseid").astype(np.int64), **table, "age": age}
