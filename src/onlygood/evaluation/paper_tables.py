"""The tables of the four papers as data: what each row is here, and on what it is measured.

A row is called as it is printed, so that its figures are those of `published.csv`, and has ways to
run it: METHOD:PRESET with further settings, each on some of the classes. One without a way is
missing here. A new row, or a way for one that is printed already, is one line. No torch here.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from onlygood.core.errors import ConfigError, DataError, alternatives
from onlygood.data.readers import MVTEC_CATEGORIES, celeba, read_set
from onlygood.data.readers.idx import DIGITS
from onlygood.data.readers.sets import find_folder
from onlygood.evaluation.protocols import PAIR, folder_of, open_tasks
from onlygood.evaluation.published import Figure, beside

TEXTURES = ("carpet", "grid", "leather", "tile", "wood")
TURNED = ("bottle", "hazelnut", "metal_nut", "screw")
"""Objects of MVTec AD that may lie in any direction."""
OBJECTS = tuple(name for name in MVTEC_CATEGORIES if name not in TEXTURES)


@dataclass(frozen=True)
class Way:
    """How a row is run here."""

    preset: str
    """METHOD:PRESET."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """What is said beyond the preset."""
    classes: Sequence[str] = ()
    """That it is for; empty: all that no way before it is for."""
    part: str = ""
    """The part of the score that counts; empty: the score."""
    weights: str = ""
    """The backbone whose weights must be fetched first."""
    instead: Mapping[str, str] = field(default_factory=dict)
    """Settings that do without these weights, as well as can be."""
    remark: str = ""
    """In what it is not the row that is printed."""


@dataclass(frozen=True)
class Row:
    """A row of a table."""

    printed: str
    """What `published.csv` calls it."""
    ways: Sequence[Way] = ()
    """How it is run here; empty: not at all."""

    def way(self, normal: str) -> Way | None:
        """How it is run on a class."""
        return next((way for way in self.ways if normal in (way.classes or (normal,))), None)


@dataclass(frozen=True, kw_only=True)
class Block:
    """Rows that are measured in one way."""

    protocol: str
    datasets: Sequence[str]
    rows: Sequence[Row]
    classes: Sequence[str] = ()
    """Normal classes; empty: those that published means are over."""


@dataclass(frozen=True, kw_only=True)
class MeasuredTable:
    """A table of figures that methods reach."""

    paper: str
    printed_as: str
    """`Table 1`, or what `published.csv` calls it."""
    what: str
    blocks: Sequence[Block]
    metric: str = "auroc"
    """The entry of our records."""

    @property
    def datasets(self) -> tuple[str, ...]:
        """All that it is measured on; a pair counts as one."""
        return tuple(dict.fromkeys(chain.from_iterable(block.datasets for block in self.blocks)))

    @property
    def rows(self) -> list[Row]:
        """All rows, as often as they are printed."""
        return [row for block in self.blocks for row in block.rows]

    @property
    def weights(self) -> list[str]:
        """Backbones whose weights must be fetched."""
        return sorted({way.weights for row in self.rows for way in row.ways if way.weights})

    def figures(self, block: Block, row: Row) -> dict[tuple[str, str], Figure]:
        """What is printed, by data set and class."""
        return {
            (dataset, figure.normal): figure
            for dataset in block.datasets
            for figure in beside(dataset, block.protocol)
            if (figure.paper, figure.table, figure.method)
            == (self.paper, self.printed_as, row.printed)
        }


@dataclass(frozen=True, kw_only=True)
class CountedTable:
    """A table of numbers of pictures."""

    paper: str
    printed_as: str
    what: str
    columns: Sequence[str]
    printed: Mapping[str, Sequence[int]]
    """By data set or category."""
    count: Callable[[str, Path | None], Sequence[int]]
    """The same of the files; takes the name, and the folder of the data set or of data sets."""
    datasets: Sequence[str]
    rows: Sequence[Row] = ()
    weights: Sequence[str] = ()


Table = MeasuredTable | CountedTable

# Counting ----------------------------------------------------------------------------------------


def _of_category(name: str, folder: Path | None) -> tuple[int, ...]:
    """Normal pictures to train on; normal and anomalous ones to test on; side in pixels."""
    task = open_tasks("mvtec", "mvtec", folder).task(name)
    labels = task.test.labels
    return len(task.train), int((~labels).sum()), int(labels.sum()), task.train[0].load().shape[0]


def _of_set(name: str, folder: Path | None) -> tuple[int, ...]:
    """Classes or attributes; pictures."""
    place = folder_of(name, folder)
    if name == "celeba":
        faces = celeba(place)
        parts = (faces.train, faces.validation, faces.test)
        return len(faces.attribute_names), sum(len(part.pictures) for part in parts)
    whole = read_set(name, place)
    pool = whole.merged()
    if name == "lsun":
        return 1, int((pool.classes == whole.class_names.index("bedroom")).sum())
    return len(whole.class_names), len(pool.pictures)


# Rows --------------------------------------------------------------------------------------------

FLOOR = Row("", [Way("mean_picture:texture", classes=TEXTURES), Way("mean_picture:small")])
"""Stands below the rows of every table, printed in none: what has learnt is above it."""

_AUTOENCODER = "networks, size and length are ours"
_NOT_PRETRAINED = "trained from nothing, without further data; plain blocks"
_UNKNOWN = "settings behind the printed figures are unknown"


def _turned(preset: str, settings: Mapping[str, str] | None = None) -> list[Way]:
    """CBiGAN's three kinds of categories: section IV-B of its paper."""
    settings = settings or {}
    return [
        Way(f"{preset}-texture", settings, classes=TEXTURES),
        Way(preset, {**settings, "rotate": "-45,45"}, classes=TURNED),
        Way(preset, settings),
    ]


def _piad(preset: str) -> Way:
    """With the features of VGG-19, or else with those that are installed."""
    return Way(
        f"piad:{preset}",
        weights="vgg19",
        instead={"backbone": "efficientnet-lite0", "layer": "stride8"},
    )


_LSA_128 = {"size": "128", "widths": "64,128,256,256,256"}

_CBIGAN = Row("CBiGAN", _turned("cbigan:paper"))
_EGBAD = Row("EGBAD", _turned("cbigan:bigan"))
_AE_L2 = Row("AE_L2", _turned("ae_ssim:paper", {"distance": "l2"}))
_AE_SSIM = Row("AE_SSIM", _turned("ae_ssim:paper"))
_GANOMALY = Row("GANomaly", [Way("ganomaly:paper", {"size": "128"}, remark=_UNKNOWN)])
_ALAD = Row("ALAD", [Way("alad:paper", remark=_UNKNOWN)])
_BY_SEARCH = [
    Way("anogan:mnist", classes=DIGITS, remark=_UNKNOWN),
    Way("anogan:paper", classes=MVTEC_CATEGORIES, remark=_UNKNOWN),
    Way("anogan:cifar10", remark=_UNKNOWN),
]
_ANOGAN = Row("AnoGAN", _BY_SEARCH)
_OCGAN = Row("OCGAN", [Way("ocgan:paper", remark=_UNKNOWN)])
_AMA = Row("AMA", [Way("ama:paper")])


def _ama_pairs(ratio: Way, deep_svdd: Way) -> Sequence[Row]:
    """Rows of AMA's Table 1 for pairs whose normal pictures ask for these ways."""
    return (
        Row("WAIC on WGAN ensemble"),
        Row("Likelihood ratio on PixelCNN++", [ratio]),
        Row(
            "Typicality test on Glow",
            [Way("glow:cifar10", remark="picture by picture, where batches of two count")],
        ),
        Row("DeepSVDD", [deep_svdd]),
        Row(
            "S score PixelCNN++ and FLIF",
            [Way("pixelcnn:complexity", remark="WebP in place of FLIF; no halvings")],
        ),
        Row("AMA without mirrored loss", [Way("ama:without-mirror")]),
        Row("AMA without simplex interpolation", [Way("ama:without-interpolation")]),
        Row("AMA without atypical selection", [Way("ama:without-atypical")]),
        # No training of its own: every record of AMA has the AUROC of both scores.
        Row("AMA with R-score instead of A-score", [Way("ama:paper", part="r")]),
        _AMA,
    )


_AMA_ALONE = (
    Row(
        "FGAN",
        [
            Way("fence_gan:paper", classes=DIGITS, remark=_UNKNOWN),
            Way("fence_gan:cifar10", remark=_UNKNOWN),
        ],
    ),
    _ALAD,
    _ANOGAN,
    Row("Skip-GANomaly", [Way("skip_ganomaly:paper", remark=_UNKNOWN)]),
    Row("DeepSVDD", [Way("deep_svdd:ama-mnist", classes=DIGITS), Way("deep_svdd:ama-cifar10")]),
    _AMA,
)
_ONE_CLASS = (
    _ANOGAN,
    Row(
        "ADGAN",
        [
            Way("adgan:paper", classes=DIGITS, remark=_UNKNOWN),
            Way("adgan:cifar10", remark=_UNKNOWN),
        ],
    ),
    _OCGAN,
    _ALAD,
    Row("LSA", [Way("lsa:mnist", classes=DIGITS), Way("lsa:cifar10")]),
    Row("DeepSVDD", [Way("deep_svdd:mnist", classes=DIGITS), Way("deep_svdd:cifar10")]),
)


def _shallow(settings: Mapping[str, str]) -> tuple[Row, Row]:
    remark = "the LSA paper, where the figures come from, has other settings of its own"
    return (
        Row("OC-SVM", [Way("ocsvm:lsa", settings, remark=remark)]),
        Row("KDE", [Way("kde:lsa", settings, remark=remark)]),
    )


_NOT_FOR_THESE = "its authors published settings for MNIST alone"
_GPND = (Row("GPND", [Way("gpnd:paper", remark=_NOT_FOR_THESE)]), _OCGAN)

# The tables --------------------------------------------------------------------------------------

TABLES: dict[str, Table] = {
    "ce-bigan-1": MeasuredTable(
        paper="CE-BiGAN",
        printed_as="Table 1",
        what="metal nut of MVTec AD",
        blocks=[
            Block(
                protocol="mvtec",
                datasets=["mvtec"],
                classes=["metal_nut"],
                rows=[
                    Row("AutoEncoder", [Way("autoencoder:default", remark=_AUTOENCODER)]),
                    Row("AnoGAN (copied from MVTec paper)", _BY_SEARCH),
                    Row("BiGAN concatenate (EGBAD)", [Way("cebigan:bigan-concatenate")]),
                    Row("BiGAN projection", [Way("cebigan:bigan-projection")]),
                    Row(
                        "BiGAN concatenate + consistency", [Way("cebigan:consistency-concatenate")]
                    ),
                    Row("BiGAN projection + consistency (CE-BiGAN)", [Way("cebigan:paper")]),
                ],
            )
        ],
    ),
    "ce-bigan-fig-5": MeasuredTable(
        paper="CE-BiGAN",
        printed_as="Fig. 5",
        what="each digit of MNIST against the others; printed as bars without numbers",
        blocks=[
            Block(
                protocol="one-vs-rest",
                datasets=["mnist"],
                rows=[
                    Row("AutoEncoder", [Way("autoencoder:small", remark=_AUTOENCODER)]),
                    _ANOGAN,
                    Row("EGBAD", [Way("cebigan:mnist-bigan")]),
                    Row("concatenate + consistency", [Way("cebigan:mnist-concatenate")]),
                    Row("projection + consistency", [Way("cebigan:mnist")]),
                ],
            )
        ],
    ),
    "cbigan-1": CountedTable(
        paper="CBiGAN",
        printed_as="Table I",
        what="pictures of MVTec AD",
        columns=("train", "test, normal", "test, anomalous", "side, px"),
        datasets=("mvtec",),
        printed={
            "carpet": (280, 28, 89, 1024),
            "grid": (264, 21, 57, 1024),
            "leather": (245, 32, 92, 1024),
            "tile": (230, 33, 84, 840),
            "wood": (247, 19, 60, 1024),
            "bottle": (209, 20, 63, 900),
            "cable": (224, 58, 92, 1024),
            "capsule": (219, 23, 109, 1000),
            "hazelnut": (391, 40, 70, 1024),
            "metal_nut": (220, 22, 93, 700),
            "pill": (267, 26, 141, 800),
            "screw": (320, 41, 119, 1024),
            "toothbrush": (60, 12, 30, 1024),
            "transistor": (213, 60, 40, 1024),
            "zipper": (240, 32, 119, 1024),
        },
        count=_of_category,
    ),
    "cbigan-2": MeasuredTable(
        paper="CBiGAN",
        printed_as="Table II",
        what="MVTec AD, textures and objects",
        metric="max_balanced_accuracy_by_kind",
        blocks=[
            Block(
                protocol="mvtec",
                datasets=["mvtec"],
                rows=[
                    _ANOGAN,
                    Row("VAE-grad", _turned("vae_grad:paper")),
                    _AE_SSIM,
                    _AE_L2,
                    Row("AVID", [Way("avid:paper", remark=_UNKNOWN)]),
                    Row("LSA", [Way("lsa:cifar10", _LSA_128, remark=_UNKNOWN)]),
                    Row("CAVGA-Du (extra data)", [Way("cavga:paper", remark=_NOT_PRETRAINED)]),
                    Row("CAVGA-Ru (extra data)", [Way("cavga:paper", remark=_NOT_PRETRAINED)]),
                    _EGBAD,
                    _CBIGAN,
                ],
            )
        ],
    ),
    "cbigan-3": MeasuredTable(
        paper="CBiGAN",
        printed_as="Table III",
        what="MVTec AD, textures and objects",
        blocks=[
            Block(
                protocol="mvtec",
                datasets=["mvtec"],
                rows=[
                    _AE_L2,
                    Row("GeoTrans", [Way("geotrans:paper-64", remark=_UNKNOWN)]),
                    _GANOMALY,
                    Row("ITAE", [Way("itae:mvtec", remark=_UNKNOWN)]),
                    _EGBAD,
                    _CBIGAN,
                ],
            )
        ],
    ),
    "ama-1": MeasuredTable(
        paper="AMA",
        printed_as="Table 1",
        what="one data set against another, and what each part of AMA adds",
        blocks=[
            Block(
                protocol="ood",
                datasets=[f"fashion-mnist{PAIR}{other}" for other in ("mnist", "omniglot")],
                rows=_ama_pairs(Way("pixelcnn:ratio"), Way("deep_svdd:ama-mnist")),
            ),
            Block(
                protocol="ood",
                datasets=[f"cifar10{PAIR}{other}" for other in ("svhn", "imagenet", "cifar100")],
                rows=_ama_pairs(
                    Way("pixelcnn:ratio", {"size": "32", "steps": "600000"}),
                    Way("deep_svdd:ama-cifar10"),
                ),
            ),
            Block(
                protocol="ood",
                datasets=[f"svhn{PAIR}{other}" for other in ("cifar10", "imagenet", "cifar100")],
                rows=_ama_pairs(
                    Way(
                        "pixelcnn:ratio",
                        {"size": "32", "steps": "600000"},
                        remark="CIFAR-10's length; its paper has none for SVHN",
                    ),
                    Way("deep_svdd:ama-cifar10", remark="CIFAR-10's network"),
                ),
            ),
        ],
    ),
    "ama-known": MeasuredTable(
        paper="AMA",
        printed_as="appendix",
        what="with known anomalous pictures; the appendix with its figures was not to be had",
        blocks=[
            Block(
                protocol="ood-known",
                datasets=[f"fashion-mnist{PAIR}mnist", f"cifar10{PAIR}svhn"],
                rows=[Row("AMA, semi-supervised", [Way("ama:code")])],
            ),
            Block(
                protocol="one-vs-rest-known",
                datasets=["mnist", "cifar10"],
                rows=[Row("AMA, semi-supervised", [Way("ama:code")])],
            ),
        ],
    ),
    "ama-2": MeasuredTable(
        paper="AMA",
        printed_as="Table 2",
        what="each class of MNIST and CIFAR-10 against the others",
        blocks=[
            Block(protocol="one-vs-rest", datasets=["mnist"], rows=_AMA_ALONE),
            Block(protocol="one-vs-rest", datasets=["cifar10"], rows=_AMA_ALONE),
        ],
    ),
    "piad-1": CountedTable(
        paper="PIAD",
        printed_as="Table 1",
        what="pictures of the data sets",
        columns=("classes or attributes", "pictures"),
        datasets=("mnist", "fashion-mnist", "coil100", "cifar10", "lsun", "celeba"),
        printed={
            "mnist": (10, 70_000),
            "fashion-mnist": (10, 70_000),
            "coil100": (100, 7_200),
            "cifar10": (10, 60_000),
            "lsun": (1, 3_033_342),
            "celeba": (40, 202_599),
        },
        count=_of_set,
    ),
    "piad-2": MeasuredTable(
        paper="PIAD",
        printed_as="Table 2",
        what="each class of MNIST and CIFAR-10 against the others",
        blocks=[
            Block(
                protocol="one-vs-rest",
                datasets=["mnist"],
                rows=[*_shallow({}), *_ONE_CLASS, Row("PIAD", [_piad("paper-mnist")])],
            ),
            Block(
                protocol="one-vs-rest",
                datasets=["cifar10"],
                rows=[
                    *_shallow({"size": "32"}),
                    *_ONE_CLASS,
                    Row("PIAD", [_piad("paper-cifar10")]),
                ],
            ),
        ],
    ),
    "piad-3": MeasuredTable(
        paper="PIAD",
        printed_as="Table 3",
        what="Fashion-MNIST and COIL-100; attributes of CelebA; what each part of PIAD adds",
        blocks=[
            Block(
                protocol="gpnd",
                datasets=["fashion-mnist"],
                rows=[*_GPND, Row("PIAD", [_piad("paper-mnist")])],
            ),
            Block(
                protocol="gpnd",
                datasets=["coil100"],
                rows=[*_GPND, Row("PIAD", [_piad("paper-coil-100")])],
            ),
            Block(
                protocol="celeba-attributes",
                datasets=["celeba"],
                rows=[Row("PIAD", [_piad("paper-celeba")])],
            ),
            Block(
                protocol="one-vs-rest",
                datasets=["cifar10"],
                rows=[
                    # The squared error asks no backbone.
                    Row(
                        "PIAD: MSE with hand-chosen weights (baseline)",
                        [Way("piad:ablation-mse-fixed")],
                    ),
                    Row("PIAD: MSE + gradient-normalised weights", [Way("piad:ablation-mse")]),
                    Row("PIAD: perceptual loss", [_piad("ablation-perceptual")]),
                    Row(
                        "PIAD: perc-L1 (standardised features and L1)", [_piad("ablation-perc-l1")]
                    ),
                    Row("PIAD: rel-perc-L1 (PIAD)", [_piad("paper-cifar10")]),
                ],
            ),
        ],
    ),
    "piad-lsun": MeasuredTable(
        paper="PIAD",
        printed_as="text",
        what="bedrooms of LSUN against conference rooms",
        blocks=[
            Block(
                protocol="lsun-pair",
                datasets=["lsun"],
                classes=["conference_room"],
                rows=[
                    Row(
                        "ADGAN",
                        [Way("adgan:paper", {"crop": "256", "size": "64"}, remark=_UNKNOWN)],
                    ),
                    Row("PIAD", [_piad("paper-lsun")]),
                ],
            )
        ],
    ),
    "piad-fig-5": MeasuredTable(
        paper="PIAD",
        printed_as="Fig. 5",
        what="cars of CIFAR-10 by three distances",
        blocks=[
            Block(
                protocol="one-vs-rest",
                datasets=["cifar10"],
                classes=["automobile"],
                rows=[
                    Row("PIAD score: MSE", [Way("piad:ablation-mse")]),
                    Row("PIAD score: perc", [_piad("ablation-perceptual")]),
                    Row("PIAD score: rel-perc-L1", [_piad("paper-cifar10")]),
                ],
            )
        ],
    ),
}
"""By the name that users type."""


def table_of(name: str) -> Table:
    """A table by its name.

    Raises:
        ConfigError: there is none.
    """
    if name not in TABLES:
        raise ConfigError(f'unknown table "{name}"{alternatives(name, TABLES)}')
    return TABLES[name]


def title_of(table: Table) -> str:
    """Where it is printed, and what it holds."""
    return f"{table.paper}, {table.printed_as}: {table.what}"


def place_of(table: Table, dataset: str, folder: Path | None) -> Path | None:
    """Where a data set of a table is: below the folder, in it, or (None) where it is installed.

    Raises:
        DataError: there is no such folder.
    """
    if folder is None:
        return None
    if not folder.is_dir():
        raise DataError(f"there is no folder {folder}; give the one that holds the data sets")
    # One folder cannot be several data sets; a pair looks for its own two.
    alone = len(table.datasets) == 1 or PAIR in dataset
    return folder if alone or (folder / dataset).is_dir() else None


def sets_of(table: Table, folder: Path | None) -> dict[str, bool]:
    """The data sets of a table, those of pairs one by one, and whether there is a folder for each.

    Nothing is read: what is in the folder may be something else.

    Raises:
        DataError: there is no such folder as the one that is given.
    """
    names = dict.fromkeys(name for dataset in table.datasets for name in dataset.split(PAIR))
    places = {name: place_of(table, name, folder) for name in names}
    return {name: _is_there(name, place) for name, place in places.items()}


def _is_there(name: str, place: Path | None) -> bool:
    try:
        find_folder(name, place, "")
    except DataError:
        return False
    return True
