"""Two cohorts of breast tumours from the package SurvSet: gene expression and receptor status.

GSE3143: Bild et al., Nature 439 (2006) 353. GSE1992: Hu et al., BMC Genomics 7 (2006) 96. SurvSet
(Drysdale, arXiv 2203.03094, GPL-3) took both from the R package survJamda.data, and reads them
from pickles of its own. A pickle can run code when it is read, so its SHA-256 is compared first.
"""

from __future__ import annotations

import hashlib
from importlib.resources import files
from pathlib import Path

from ..data import DataError

INSTALL = 'pip install -e ".[genes]"'
SHA256 = {
    "gse3143": "85e0292fde1063a8a26f60b7519889b7384d298256116759f84f8d8b6a39a483",
    "gse1992": "86601d8810ca2738c0d460f7ee371815ba3d7354c8264abfbb6a5153133ff1da",
}
RECEPTOR = {"gse3143": "fac_erlev", "gse1992": "fac_er_positive"}  # 0 to 3; 0, 1 or "missing"
GENE = "num_HS_"  # how the columns of genes begin; "num_erlev" is the receptor once more


def pickle_path(name: str) -> Path:
    """Where SurvSet keeps a cohort. Raises ImportError, with the remedy, where it is missing."""
    try:
        return Path(str(files("SurvSet"))) / "resources" / "pickles" / f"{name}.pickle"
    except ModuleNotFoundError as error:
        raise ImportError(f"The package SurvSet is missing. Install it: {INSTALL}") from error


def check_pickle(name: str) -> None:
    """Raise DataError where SurvSet's file of a cohort has another SHA-256 than we know."""
    found = hashlib.sha256(pickle_path(name).read_bytes()).hexdigest()
    if found != SHA256[name]:
        raise DataError(
            f"{name}.pickle is not the file we know: its SHA-256 begins with {found[:12]}, "
            f"expected {SHA256[name][:12]}. It was not read. Install SurvSet 0.2.11: {INSTALL}"
        )


def read_cohort(name: str):
    """(expression, receptor) of the women whose receptor is known, in the package's order.

    `name`: "gse3143" or "gse1992". expression: pandas DataFrame, float64, women x genes, log scale
    as published. receptor: pandas Series, int64, a level from 0 to 3 (gse3143, 158 women), or 0
    and 1 (gse1992, 122 of 124 women). Raises ValueError for another name, ImportError without
    SurvSet, and DataError for a file with another SHA-256; such a file is not read.
    """
    if name not in SHA256:
        raise ValueError(f"Unknown cohort {name!r}. Choose one of: {', '.join(SHA256)}.")
    check_pickle(name)
    from SurvSet.data import SurvLoader

    table = SurvLoader().load_dataset(name)["df"].set_index("pid")
    status = table[RECEPTOR[name]].astype(str)
    known = status.str.fullmatch("[0-3]")
    expression = table.loc[known, [c for c in table.columns if c.startswith(GENE)]]
    return expression.rename(columns=lambda c: c.removeprefix(GENE)), status[known].astype("int64")
