"""Plugin for pytest -p: nbval waits 5 seconds for a cell's output; slow machines need longer."""

from nbval import plugin

_init = plugin.IPyNbFile.__init__


def patient(self, *args, **kwargs):
    _init(self, *args, **kwargs)
    self.output_timeout = 60


plugin.IPyNbFile.__init__ = patient
