"""Readers of known data sets, from their original files.

Whole data sets, to cut protocols from:

- `read_set(name, folder)` gives a `LabelledSet` (`name`, `class_names`, `train`, `test`), whose
  parts are `Part(pictures, classes)`; names are in `SETS`. A set without an official split has an
  empty `train` and all its pictures in `test`, so `test` always holds what another set may be
  compared with, and `merged()` is always everything.
- `celeba(folder)` gives an `AttributeSet`, with attributes in place of one class.

Published splits, ready to use, as `KnownSplit(train, test)` with the test `Labelled`:

- `one_vs_rest(found, normal_class)` of a `LabelledSet`, in the official split;
- `elpv(module, folder)`, `mvtec(category_folder)`, `visa(category, folder)`, the latter two with
  masks; `elpv_doubtful(module, folder)`, of what the first does not test;
- `surface(name, folder)`, cut out of textures, and `part(name, folder)`, things out of place, with
  made defects and masks;
- `DATASETS`, those that `write_dataset` writes as folders of pictures.

A folder of None stands for where the system, or a package that carries the data, keeps them.
"""

from onlygood.data.readers.catalogue import (
    DATASETS,
    SETS,
    Dataset,
    Summary,
    read_set,
    write_dataset,
)
from onlygood.data.readers.celeba import celeba
from onlygood.data.readers.idx import idx
from onlygood.data.readers.industrial import (
    MVTEC_CATEGORIES,
    VISA_CATEGORIES,
    elpv,
    elpv_doubtful,
    mvtec,
    visa,
)
from onlygood.data.readers.parts import part
from onlygood.data.readers.sets import (
    AttributePart,
    AttributeSet,
    KnownSplit,
    LabelledSet,
    Part,
    one_vs_rest,
)
from onlygood.data.readers.surfaces import surface

__all__ = [
    "DATASETS",
    "MVTEC_CATEGORIES",
    "SETS",
    "VISA_CATEGORIES",
    "AttributePart",
    "AttributeSet",
    "Dataset",
    "KnownSplit",
    "LabelledSet",
    "Part",
    "Summary",
    "celeba",
    "elpv",
    "elpv_doubtful",
    "idx",
    "mvtec",
    "one_vs_rest",
    "part",
    "read_set",
    "surface",
    "visa",
    "write_dataset",
]
