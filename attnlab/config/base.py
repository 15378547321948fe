"""The base of every config: a frozen pydantic model in which an unknown key or a wrong type is an error."""

from pydantic import BaseModel, ConfigDict


class Config(BaseModel):
    """Data, not code: compared by value, never changed, read strictly (the text "3" is no number)."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )
