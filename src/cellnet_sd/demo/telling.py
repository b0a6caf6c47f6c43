"""What the demonstration says: a few lines per step, and each call it makes, so that a reader can repeat it."""

import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from operator import attrgetter
from pathlib import Path
from time import perf_counter
from typing import Any, Final

from cellnet_sd.errors import CellNetWarning

_MODULES: Final = {"cn": "cellnet_sd", "sc": "scanpy", "sq": "squidpy", "ad": "anndata"}


@dataclass
class Teller:
    """Says what is done, and does it.

    Parameters
    ----------
    say
        Prints a line.
    """

    say: Callable[[str], None]
    _names: dict[int, str] = field(default_factory=dict)
    _sections: int = 0
    _start: float = field(default_factory=perf_counter)

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return perf_counter() - self._start

    def section(self, title: str) -> None:
        """Begin a step."""
        self._sections += 1
        self.say("")
        self.say(f"{self._sections}. {title}")

    def line(self, words: str) -> None:
        """Say something."""
        self.say(f"   {words}")

    def name(self, value: Any, name: str) -> None:
        """Have calls show `value` as `name`."""
        self._names[id(value)] = name

    def call(self, function: str, *values: Any, into: str | None = None, **options: Any) -> Any:
        """Show a call, then make it.

        Parameters
        ----------
        function
            Its name as users write it, such as `"sc.pp.pca"`.
        *values, **options
            What it is called with.
        into
            Name of the variable that takes its result; calls to come show the result by it.
        """
        words = [self._shown(value) for value in values]
        words += [f"{name}={self._shown(value)}" for name, value in options.items()]
        target = f"{into} = " if into else ""
        self.say(f"   >>> {target}{function}({', '.join(words)})")
        module, _, path = function.partition(".")
        result = attrgetter(path)(import_module(_MODULES[module]))(*values, **options)
        if into:
            self.name(result, into)
        return result

    def _shown(self, value: Any) -> str:
        if id(value) in self._names:
            return self._names[id(value)]
        return repr(str(value)) if isinstance(value, Path) else repr(value)

    def table(self, rows: Sequence[Sequence[str]]) -> None:
        """Say rows of words in columns; the first to the left, the others to the right."""
        widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
        for first, *others in rows:
            cells = [
                first.ljust(widths[0]),
                *(word.rjust(width) for word, width in zip(others, widths[1:], strict=True)),
            ]
            self.line("   ".join(cells).rstrip())


@contextmanager
def others_quiet() -> Iterator[None]:
    """Keep warnings and progress notes of other packages from the reader; this package's own warnings stay."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.filterwarnings("default", category=CellNetWarning)
            yield
    finally:
        logging.disable(before)
