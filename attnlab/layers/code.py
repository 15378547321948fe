"""Execution of the Python text that a config holds. Whatever is wrong with it is told in one line with its place.

What cannot be caught: code that ends the process at once (`os._exit`), takes all memory, or never returns.
"""

import builtins
import functools
import linecache
import sys
import traceback
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from attnlab.config.custom import Custom
from attnlab.config.errors import UserError

LONGEST = 200
"""Characters of a message of somebody's code."""


class Code:
    """The text of a custom part and of the modules beside it, which are executed when first imported."""

    def __init__(self, config: Custom):
        self._config = config
        self._texts = {config.file: config.source, **{f"{name}.py": text for name, text in config.modules.items()}}
        self._modules: dict[str, ModuleType] = {}

    def function(self) -> Callable[..., Any]:
        """Execute the text and take its function; what the function raises is told in one line too."""
        load = self.guarded(self._executed, "cannot be executed: ")
        return self.guarded(getattr(load(self._config.file), self._config.name))

    def guarded(self, function: Callable[..., Any], what: str = "") -> Callable[..., Any]:
        """Wrap a function so that whatever it raises is one `UserError` line that says where in the text it was."""

        @functools.wraps(function)
        def called(*arguments: Any, **keywords: Any) -> Any:
            try:
                return function(*arguments, **keywords)
            except (KeyboardInterrupt, UserError):
                raise
            except BaseException as error:  # SystemExit too: no code of a config ends a command
                raise UserError(f"{self._place(error)}: {what}{_told(error)}") from error

        return called

    def _executed(self, file: str) -> ModuleType:
        """Execute one text as a module that no other config sees."""
        text, where = self._texts[file], self._shown(file)
        linecache.cache[where] = (len(text), None, text.splitlines(keepends=True), where)
        module = ModuleType(f"{file.rpartition('/')[2].removesuffix('.py')}@{self._config.sha256[:12]}")
        sys.modules[module.__name__] = module  # where dataclasses look
        vars(module)["__builtins__"] = {**vars(builtins), "__import__": self._import}
        self._modules[file] = module
        try:
            exec(compile(text, where, "exec", dont_inherit=True), vars(module))
        except BaseException:
            del self._modules[file], sys.modules[module.__name__]
            raise
        return module

    def _import(
        self, name: str, names: Mapping[str, Any] | None = None, local: Any = None, wanted: Any = (), level: int = 0
    ) -> ModuleType:
        file = f"{name}.py"
        if level or name not in self._config.modules:
            return builtins.__import__(name, names, local, wanted, level)
        return self._modules[file] if file in self._modules else self._executed(file)

    def _shown(self, file: str) -> str:
        """Name a text in tracebacks."""
        return f"<{file}, as the run keeps it>"

    def _place(self, error: BaseException) -> str:
        """Say which line of the texts an error comes from."""
        files = {self._shown(file): file for file in self._texts}
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename in files]
        return f"{files[frames[-1].filename]}:{frames[-1].lineno}" if frames else self._config.file


def _told(error: BaseException) -> str:
    """Name an error with the first line of what it says."""
    said = str(error).strip().partition("\n")[0]
    said = "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in said)
    said = f"{said[:LONGEST]}..." if len(said) > LONGEST else said
    return f"{type(error).__name__}: {said}" if said else type(error).__name__
