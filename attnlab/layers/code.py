"""Execution of the Python code in a config; each of its errors is reported in one line with file and line number.

Not caught: code that ends the process at once (`os._exit`), exhausts memory, or never returns.
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

MAX_MESSAGE = 200
"""Characters of an error message of a config's code that are reported."""


class Code:
    """The source of a custom part and of its helper modules, which are executed when first imported."""

    def __init__(self, config: Custom):
        self._config = config
        self._texts = {config.file: config.source, **{f"{name}.py": text for name, text in config.modules.items()}}
        self._modules: dict[str, ModuleType] = {}

    def function(self) -> Callable[..., Any]:
        """Execute the source and return its function, wrapped so that its errors are reported in one line too."""
        load = self.guarded(self._execute, "cannot be executed: ")
        return self.guarded(getattr(load(self._config.file), self._config.name))

    def guarded(self, function: Callable[..., Any], prefix: str = "") -> Callable[..., Any]:
        """Wrap a function so that each of its exceptions becomes a one-line `UserError` with the place in the source.

        Args:
            function: a function of the config's code.
            prefix: put before the message of the exception.
        """

        @functools.wraps(function)
        def wrapped(*arguments: Any, **keywords: Any) -> Any:
            try:
                return function(*arguments, **keywords)
            except (KeyboardInterrupt, UserError):
                raise
            except BaseException as error:  # SystemExit too: code of a config must not end a command
                raise UserError(f"{self._place(error)}: {prefix}{_message(error)}") from error

        return wrapped

    def _execute(self, file: str) -> ModuleType:
        """Execute one source file as a module that other configs cannot see."""
        text, where = self._texts[file], self._display_name(file)
        linecache.cache[where] = (len(text), None, text.splitlines(keepends=True), where)
        module = ModuleType(f"{file.rpartition('/')[2].removesuffix('.py')}@{self._config.sha256[:12]}")
        sys.modules[module.__name__] = module  # dataclasses need it there
        vars(module)["__builtins__"] = {**vars(builtins), "__import__": self._import}
        self._modules[file] = module
        try:
            exec(compile(text, where, "exec", dont_inherit=True), vars(module))
        except BaseException:
            del self._modules[file], sys.modules[module.__name__]
            raise
        return module

    def _import(
        self, name: str, names: Mapping[str, Any] | None = None, local: Any = None, fromlist: Any = (), level: int = 0
    ) -> ModuleType:
        file = f"{name}.py"
        if level or name not in self._config.modules:
            return builtins.__import__(name, names, local, fromlist, level)
        return self._modules[file] if file in self._modules else self._execute(file)

    def _display_name(self, file: str) -> str:
        """Return the name of a source file in tracebacks."""
        return f"<{file}, as stored with the run>"

    def _place(self, error: BaseException) -> str:
        """Return the file and line of the config's code that an error comes from."""
        files = {self._display_name(file): file for file in self._texts}
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename in files]
        return f"{files[frames[-1].filename]}:{frames[-1].lineno}" if frames else self._config.file


def _message(error: BaseException) -> str:
    """Return the type of an error and the first line of its message."""
    line = str(error).strip().partition("\n")[0]
    line = "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in line)
    line = f"{line[:MAX_MESSAGE]}..." if len(line) > MAX_MESSAGE else line
    return f"{type(error).__name__}: {line}" if line else type(error).__name__
