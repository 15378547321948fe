"""The base of every config: a frozen pydantic model in which an unknown key or a wrong type is an error."""

from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Probability = Annotated[float, Field(ge=0.0, lt=1.0)]
LONGEST_NAME = 200
"""Largest size of a name in bytes; names of files made from it are longer, and a file system allows 255."""


def _names_a_file(name: str) -> str:
    wrong = next((character for character in name if character in "/\\" or not character.isprintable()), None)
    if wrong is not None:
        raise ValueError(f"{name[:40]!r} is used as a file name, so it cannot contain {wrong!r}; use a plain word")
    if not name.strip(". "):
        raise ValueError(f"{name!r} cannot be a file name; use a plain word")
    if (size := len(name.encode())) > LONGEST_NAME:
        raise ValueError(
            f"{name[:20]!r}... is used as a file name, so it may have at most {LONGEST_NAME} bytes, got {size}"
        )
    return name


FileName = Annotated[str, AfterValidator(_names_a_file)]
"""A name for files and folders: no path separator and only printable characters."""
Seed = Annotated[int, Field(ge=0, lt=2**32)]
"""Seed of a random number generator, below 2³²: jax uses 32 bits, so a larger seed would repeat a smaller one."""


class Config(BaseModel):
    """Base of all configs: frozen, compared by value, validated strictly (the text "3" is not a number)."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    def replace(self, **fields: object) -> Self:
        """Return a validated copy with new values for some fields."""
        return type(self).model_validate_json(self.model_copy(update=fields).model_dump_json())

    def with_limits(self, **limits: int) -> Self:
        """Return a copy in which each named number is at most its limit."""
        return self.replace(**{name: min(getattr(self, name), limit) for name, limit in limits.items()})

    def tiny(self) -> Self:
        """Return a copy that is small enough to run in seconds; by default, only nested configs are shrunk."""
        sections = {name: getattr(self, name) for name in type(self).model_fields}
        small = {name: section.tiny() for name, section in sections.items() if isinstance(section, Config)}
        return self.replace(**small) if small else self
