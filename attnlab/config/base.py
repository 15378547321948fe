"""The base of every config: a frozen pydantic model in which an unknown key or a wrong type is an error."""

from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Probability = Annotated[float, Field(ge=0.0, lt=1.0)]
LONGEST_NAME = 200
"""Bytes of a name, at most; files that are named after it have longer ones, and a file system takes 255."""


def _names_a_file(name: str) -> str:
    wrong = next((character for character in name if character in "/\\" or not character.isprintable()), None)
    if wrong is not None:
        raise ValueError(f"{name[:40]!r} names files, so it cannot hold {wrong!r}; give a plain word")
    if not name.strip(". "):
        raise ValueError(f"{name!r} cannot name files; give a plain word")
    if (size := len(name.encode())) > LONGEST_NAME:
        raise ValueError(f"{name[:20]!r}... names files, so it has at most {LONGEST_NAME} bytes, given {size}")
    return name


FileName = Annotated[str, AfterValidator(_names_a_file)]
"""A name that files and folders get: no path, nothing that cannot be printed."""
Seed = Annotated[int, Field(ge=0, lt=2**32)]
"""Of a random number generator; jax takes 32 bits of it, so that a larger one would repeat a smaller one."""


class Config(BaseModel):
    """Data, not code: compared by value, never changed, read strictly (the text "3" is no number)."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    def replace(self, **fields: object) -> Self:
        """Return a validated copy with other values of some fields."""
        return type(self).model_validate_json(self.model_copy(update=fields).model_dump_json())

    def with_limits(self, **limits: int) -> Self:
        """Return a copy in which each named number is at most its limit."""
        return self.replace(**{name: min(getattr(self, name), limit) for name, limit in limits.items()})

    def tiny(self) -> Self:
        """Shrink what takes time; a section that has nothing to shrink stays as it is."""
        return self
