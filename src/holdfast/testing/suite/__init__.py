"""Every case of the suite: all classes named Test... in this folder.

An engine's test module takes them by ``from holdfast.testing.suite import *``.
"""

from importlib import import_module
from pkgutil import iter_modules

__all__ = []  # filled below, so that a new file of cases is never left out

for _found in iter_modules(__path__):
    _module = import_module(f"{__name__}.{_found.name}")
    for _name, _case in vars(_module).items():
        if _name.startswith("Test") and getattr(_case, "__module__", "") == _module.__name__:
            if _name in globals():
                raise ImportError(f"two files of the suite have a class {_name}")
            globals()[_name] = _case
            __all__ += [_name]
