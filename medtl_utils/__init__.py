"""Thin helper of the course "Transfer learning in medicine".

What the notebooks teach, they build in sight first.

The modules are loaded when a name is first used, so that `import medtl_utils` costs nothing.
"""

from importlib import import_module

__version__ = "1.0.0"

_HOME = {
    "data": ("DataError", "Split", "Task", "TestSetOpened", "check_disjoint"),
    "datasets": ("load_task",),
    "datasets.folder_read": ("read_folder",),
    "before": ("before_training",),
    "paths": ("data_folder",),
    "models": (
        "freeze",
        "load_model",
        "param_groups",
        "replace_head",
        "save_model",
        "set_batchnorm",
        "source_model",
    ),
    "training": ("best_device", "fine_tune", "predict"),
    "evaluation": ("aggregate", "compare", "evaluate"),
    "metrics": ("delong",),
    "reports": ("report", "tripod_report"),
    "plots": ("show", "show_images"),
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}
__all__ = sorted(_MODULE_OF)


def __getattr__(name: str):
    if name not in _MODULE_OF:
        raise AttributeError(f"medtl_utils has no {name!r}. It has: {', '.join(__all__)}.")
    return getattr(import_module(f".{_MODULE_OF[name]}", __name__), name)


def __dir__() -> list[str]:
    return __all__
