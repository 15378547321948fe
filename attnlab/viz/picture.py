"""Pictures of attention maps: heat maps, highlighted texts, or images with a grid."""

from pathlib import Path

from attnlab.tasks.attention_map import AnyAttentionMap, ImageAttentionMap
from attnlab.viz.heat_map import draw_heat_map
from attnlab.viz.highlighted_text import draw_highlighted_text
from attnlab.viz.image_grid import draw_image_grid


def draw(attention_map: AnyAttentionMap, path: Path) -> str:
    """Draw an attention map as PNG: a heat map, a highlighted text, or an image with a grid.

    Returns: a message that names characters without a font, or "".
    """
    if isinstance(attention_map, ImageAttentionMap):
        return draw_image_grid(attention_map, path)
    if attention_map.column_format == "text":
        return draw_highlighted_text(attention_map, path)
    return draw_heat_map(attention_map, path)
