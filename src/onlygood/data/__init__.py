"""From what the user has to what a method sees; the one owner of decoding and preprocessing."""

from onlygood.data.layout import Labelled, Layout, labelled, layout, read_mask
from onlygood.data.preprocess import Preprocess, restore_map, to_images
from onlygood.data.readers import DATASETS, KnownSplit, write_dataset
from onlygood.data.source import ImageSource, Picture
from onlygood.data.split import Split, split
from onlygood.data.store import Loaded, PictureStore, iterate
from onlygood.data.tiling import Tiled, tile_count

__all__ = [
    "DATASETS",
    "ImageSource",
    "KnownSplit",
    "Labelled",
    "Layout",
    "Loaded",
    "Picture",
    "PictureStore",
    "Preprocess",
    "Split",
    "Tiled",
    "iterate",
    "labelled",
    "layout",
    "read_mask",
    "restore_map",
    "split",
    "tile_count",
    "to_images",
    "write_dataset",
]
