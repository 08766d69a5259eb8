"""The door of the preprocess stage."""

from __future__ import annotations

from pathlib import Path

from tasks.fingerprint import code_version, fingerprint
from tasks.preprocess.config import PreprocessConfig
from tasks.preprocess.preview import COLUMNS, channel_statistics, contact_sheet
from tasks.preprocess.recipe import Recipe, load_pixels
from tasks.records import Dataset, Preprocessed
from tasks.workspace import Workspace, fresh_folder

SHEET_ROWS = 4


def preview_recipe(config: PreprocessConfig, dataset: Dataset, workspace: Workspace) -> Preprocessed:
    """Apply the recipe to a sample of the training images.

    Pixels of the whole set are not kept: extraction streams them through the same recipe, and only where it
    has no features yet.
    """
    manifest = dataset.read_manifest()
    training = manifest[manifest["split"] == "train"]
    sample = training.sample(min(COLUMNS * SHEET_ROWS, len(training)), random_state=0)
    recipe = Recipe(config.size, config.fit, "one", config.crop, config.interpolation, limits=dataset.limits)
    pixels = load_pixels([dataset.image(hash) for hash in sample["hash"]], recipe, "preview")
    mean, std = channel_statistics(pixels)
    name = fingerprint(code_version(Path(__file__).parent), dataset.fingerprint, config.model_dump())
    final = workspace.cache / "previews" / name
    with fresh_folder(final) as folder:
        contact_sheet(pixels, folder / "preview.png")
    return Preprocessed(
        fingerprint=name,
        size=config.size,
        fit=config.fit,
        views=config.views,
        crop=config.crop,
        interpolation=config.interpolation,
        augmented=config.augmented,
        preview=final / "preview.png",
        mean=tuple(mean),  # type: ignore[arg-type]
        std=tuple(std),  # type: ignore[arg-type]
    )
