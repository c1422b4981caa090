"""The pictures of docs/gallery.md and the one of README.md, from a finished demo and a real slide.

    python benchmarks/gallery.py --demo DIR --slide CMU-1-Small-Region.svs [--docs docs]

DIR is the folder of `dtcwsi demo`. Its dtc-abmil, fold 0 alone, is shown a new slide of the demo, and the real slide,
of which it can know nothing: those pictures show what compression does to real tissue, not a diagnosis. The figures are
those of `dtcwsi explain`, made smaller.
"""

import argparse
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

import cv2

from dtcwsi.explain.figures.canvas import slide_canvas
from dtcwsi.explain.figures.compression import fate_legend
from dtcwsi.explain.figures.furniture import Panel, headed_page, legend, show_panels
from dtcwsi.explain.figures.page import Page
from dtcwsi.explain.figures.subject import Heading, Subject
from dtcwsi.explain.slide import view_slide
from dtcwsi.models import load
from dtcwsi.slides import open_slide
from dtcwsi.store.features import feature_files, read_features

SHOWN = "new-slide-001"
OF_THE_DEMO = (
    "figure1",
    "figure2",
    "figure3",
    "figure4",
    "tokens-by-stage",
    "importance",
    "attention",
    "top-patches",
)
OF_THE_REAL_SLIDE = ("figure2", "figure3", "figure4", "attention")
WIDTH_PX, QUALITY = 1280, 80


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--demo", type=Path, required=True)
    parser.add_argument("--slide", type=Path, required=True)
    parser.add_argument("--docs", type=Path, default=Path("docs"))
    settings = parser.parse_args()
    fold, drawn = settings.demo / "runs/dtc-abmil/fold0", settings.demo / f"new/slides/{SHOWN}.tif"
    out = settings.docs / "gallery"
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        for name, slide, figures in (("demo", drawn, OF_THE_DEMO), ("real", settings.slide, OF_THE_REAL_SLIDE)):
            explain(fold, slide, work / name, work / "extracted")
            for figure in figures:
                shrink(work / name / f"{figure}.png", out / f"{name}-{figure}.jpg")
        page = summary(fold, drawn, feature_files(work / "extracted")[SHOWN])
        (work / "summary.png").write_bytes(page.encode("png"))
        shrink(work / "summary.png", settings.docs / "picture.jpg")
    pictures = [settings.docs / "picture.jpg", *out.iterdir()]
    print(f"{len(pictures)} pictures, {sum(path.stat().st_size for path in pictures) / 2**20:.2f} MiB")


def explain(run: Path, slide: Path, out: Path, work: Path) -> None:
    command = [sys.executable, "-m", "dtcwsi", "explain", run, slide, "--out", out, "--work", work]
    subprocess.run([str(part) for part in command], check=True)


def summary(fold: Path, slide: Path, features: Path) -> Page:
    """README's picture: one slide, where the model looked, what it merged, what it pruned."""
    model, bag = load(fold), read_features(features)
    view = view_slide([model], bag)
    with closing(open_slide(slide)) as reader:
        canvas = slide_canvas(reader, max_px=680)
    counts = view.fates.counts
    told = f"{counts.tokens_in} patches, {counts.tokens_out} tokens, {view.prediction}"
    heading = Heading(f"{told} ({view.probabilities.max():.2f})", model.name, model.name)
    subject = Subject(canvas, bag, bag.coords, bag.patch_size_level0, view.fates, model, model.class_names, heading)
    titles = {"slide": "Slide", "attention": "Where it looked", "merging": "Merged", "pruning": "Pruned"}
    page = headed_page(subject, f"{model.name} on a drawn slide of the demo", columns=4)
    show_panels(page, canvas, [Panel(subject.panels[name], title) for name, title in titles.items()], columns=4)
    legend(page, fate_legend(view.fates))
    return page


def shrink(source: Path, target: Path) -> None:
    picture = cv2.imread(str(source))
    size = (WIDTH_PX, round(picture.shape[0] * WIDTH_PX / picture.shape[1]))
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    cv2.imwrite(str(target), small, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])


if __name__ == "__main__":
    main()
