"""A SpatialData store without its bulk: SpatialData writes all but the large arrays, for which tiny ones stand."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cellnet_sd.conversion.pictures import SlideOutput, StackOutput
from cellnet_sd.conversion.tables import without_values
from cellnet_sd.elements import Pictures, SlidePicture, StackPicture, plan_circles, with_elements
from cellnet_sd.joining import Piece

if TYPE_CHECKING:
    from anndata import AnnData
    from dask.array import Array

_CIRCLES: Final = "shapes.parquet"
"""Where SpatialData keeps shapes, in the folder of their element."""


def write_without_bulk(adata: "AnnData", pieces: Sequence[Piece], pictures: Pictures, path: Path) -> None:
    """Write a table without values, its circles, and pictures with tiny arrays in the place of slides and stacks."""
    elements: dict[str, Any] = {each.name: each.element(_tiny_slide(each)) for each in pictures.mosaics}
    elements |= {each.name: each.element(_tiny_stack(each)) for each in pictures.stacks}
    circles = plan_circles(pieces)
    few = {name: each.frame(slice(1)) for name, each in circles.items()}
    with_elements(without_values(adata), pictures, elements, few).write(path)
    for name, each in circles.items():
        each.write(path / "shapes" / name / _CIRCLES)


def _tiny_slide(picture: SlidePicture) -> "Array":
    """Return the smallest image that is halved as often as a slide, to the same proportions."""
    import dask.array as da

    side = 2**picture.mosaic.halvings
    return da.zeros((picture.mosaic.frame.channels, side, side), dtype=picture.mosaic.frame.dtype)


def _tiny_stack(picture: StackPicture) -> "Array":
    import dask.array as da

    frame = picture.stack.frame
    return da.zeros((frame.channels, 1, frame.height, frame.width), dtype=frame.dtype)


def outputs_of(path: Path, pictures: Pictures) -> tuple[list[SlideOutput], list[StackOutput]]:
    """Return where the slides and stacks of a store go."""
    slides = [SlideOutput(each.name, each.mosaic, _levels(path, each.name)) for each in pictures.mosaics]
    stacks = [StackOutput(each.name, each.stack, _levels(path, each.name)[0]) for each in pictures.stacks]
    return slides, stacks


def make_arrays(path: Path, pictures: Pictures) -> None:
    """Make the arrays of the slides and stacks, in the place of the tiny ones."""
    slides, stacks = outputs_of(path, pictures)
    for slide in slides:
        slide.make()
    for stack in stacks:
        stack.make()


def _levels(path: Path, name: str) -> list[Path]:
    """Return the folders of the arrays of an image, the finest first, as its OME-NGFF metadata names them."""
    import zarr

    folder = path / "images" / name
    about: Any = zarr.open_group(zarr.storage.LocalStore(folder), mode="r").attrs["ome"]
    return [folder / level["path"] for level in about["multiscales"][0]["datasets"]]
