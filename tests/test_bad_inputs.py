"""Bad inputs, and what the user gets for each: one table, through the real command line.

`docs/bad-inputs.md` says the same in words; the last tests here hold it to that.
"""

import io
import json
import os
import pickle
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

from onlygood import Detector, model_file
from onlygood.cli import main
from onlygood.core.errors import OnlygoodError
from tests import parts

PAGE = Path(__file__).parents[1] / "docs" / "bad-inputs.md"
COMMAND = (sys.executable, "-m", "onlygood.cli")


class Got(NamedTuple):
    """What the user gets: an exit status, and words on the screen."""

    status: int
    words: str
    answer: dict[str, Any]
    """The one JSON object on standard output."""


class Scene:
    """A folder to play in: a model, some good pictures, and whatever a case adds."""

    def __init__(
        self,
        folder: Path,
        model: Path,
        capture: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        self.folder, self.monkeypatch = folder, monkeypatch
        self._capture = capture
        self.model = Path(shutil.copy(model, folder / "m.safetensors"))
        self.good = folder / "good"
        parts.write(parts.normal(12, seed=2), self.good)

    def run(self, *words: object) -> Got:
        """Run a command line with `--json`."""
        status = main([*map(str, words), "--json"])
        out, err = self._capture.readouterr()
        return got(status, out, err)

    def score(self, *pictures: object) -> Got:
        return self.run("score", self.model, *pictures)

    def fit(self, *words: object, method: str = "pca") -> Got:
        tiny = (f"--set={name}={value}" for name, value in parts.TINY.items())
        return self.run("fit", method, *words, "-o", self.folder / "new.safetensors", *tiny)

    def array(self, pixels: Any) -> Got:
        """Score an array or a tensor from Python."""
        try:
            results = Detector.load(self.model).score(pixels)
        except OnlygoodError as error:
            return Got(1, str(error), {})
        errors = [result.error for result in results if result.error is not None]
        return Got(1 if errors else 0, "; ".join(errors), {})

    def file(self, name: str, content: bytes = b"") -> Path:
        """Write a file; without content it is a good picture."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content or encoded(parts.normal(1, seed=3)[0]))
        return path

    def folder_of(self, **files: bytes) -> Path:
        for name, content in files.items():
            self.file(f"new/{name}", content)
        return self.folder / "new"


def got(status: int, out: str, err: str) -> Got:
    """Whatever happens, it is one JSON object on standard output and no traceback."""
    assert "Traceback" not in err
    answer = json.loads(out, parse_constant=lambda name: pytest.fail(f"{name} in JSON"))
    assert isinstance(answer, dict)
    results = answer.get("results", ())
    return Got(status, err + "".join(str(row["error"]) for row in results), answer)


def encoded(pixels: np.ndarray, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def decisions(got: Got) -> list[str]:
    return [row["decision"] for row in got.answer["results"]]


# Pictures ------------------------------------------------------------------------------------


def damaged(scene: Scene) -> Got:
    content = bytearray(encoded(parts.normal(1)[0]))
    content[60:90] = bytes(30)
    return scene.score(scene.file("damaged.png", bytes(content)))


def truncated(scene: Scene) -> Got:
    content = encoded(parts.normal(1)[0], "JPEG")
    return scene.score(scene.file("half.jpg", content[: len(content) // 2]))


def among_good_ones(scene: Scene) -> Got:
    (scene.good / "005.png").write_bytes(b"no picture")
    done = scene.score(scene.good)
    assert decisions(done).count("error") == 1
    assert decisions(done)[5] == "error"
    assert done.answer["counts"]["normal"] == 11
    return done


def enormous(scene: Scene) -> Got:
    """The header alone says so: nothing of this size is ever held in memory."""
    header = encoded(np.zeros((1, 1), np.uint8))
    size = (20_000).to_bytes(4, "big")
    assert header[16:24] == bytes([0, 0, 0, 1] * 2)
    content = bytearray(header[:16] + size * 2 + header[24:])
    import zlib

    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    return scene.score(scene.file("huge.png", bytes(content)))


def animated(scene: Scene) -> Got:
    first, second = (Image.fromarray(p[0]) for p in (parts.normal(1, seed=2), parts.scratched(1)))
    first.save(scene.folder / "a.gif", save_all=True, append_images=[second, second])
    done = scene.score(scene.folder / "a.gif")
    assert decisions(done) == ["normal"]
    return done


def without_permission(scene: Scene) -> Got:
    path = scene.file("secret.png")
    read = Path.read_bytes

    def refuse(self: Path) -> bytes:
        if self == path:
            raise PermissionError(13, "Permission denied")
        return read(self)

    # The tests may run as root, whom no permission stops.
    scene.monkeypatch.setattr(Path, "read_bytes", refuse)
    return scene.score(path)


def pipe(scene: Scene) -> Got:
    os.mkfifo(scene.folder / "pipe.png")
    return scene.score(scene.folder / "pipe.png")


def dangling(scene: Scene) -> Got:
    (scene.folder / "link.png").symlink_to("nowhere.png")
    return scene.score(scene.folder / "link.png")


def link_to_itself(scene: Scene) -> Got:
    (scene.good / "again").symlink_to(scene.good)
    done = scene.score(scene.good)
    assert len(decisions(done)) == 12
    return done


def named(*names: str) -> Callable[[Scene], Got]:
    """Pictures of these names are scored, each with its heat map."""

    def score(scene: Scene) -> Got:
        paths = [scene.file(name) for name in names]
        done = scene.score(*paths, "--maps", scene.folder / "maps", "-o", scene.folder / "s.csv")
        assert [row["path"] for row in done.answer["results"]] == [str(path) for path in paths]
        maps = {row["map"] for row in done.answer["results"]}
        assert len(maps) == len(names)
        assert {path.name for path in (scene.folder / "maps").iterdir()} == {
            Path(map).name for map in maps
        }
        assert (scene.folder / "s.csv").read_text(encoding="utf-8").count("\n") == 1 + len(names)
        return done

    return score


def not_utf8(scene: Scene) -> Got:
    path = os.fsencode(scene.folder) + b"/caf\xe9.png"
    shutil.copy(scene.good / "000.png", path)
    done = scene.score(scene.folder, "-o", scene.folder / "s.json")
    assert any("caf\N{REPLACEMENT CHARACTER}.png" in row["path"] for row in done.answer["results"])
    return done


def twice(scene: Scene) -> Got:
    path = scene.file("one.png")
    done = scene.score(path, path)
    first, second = done.answer["results"]
    assert first == second
    return done


# Models --------------------------------------------------------------------------------------


def another_version(scene: Scene) -> Got:
    file = model_file.read(scene.model)
    scene.monkeypatch.setattr(model_file, "FORMAT", 2)
    model_file.write(scene.model, file.tensors, file.facts)
    scene.monkeypatch.setattr(model_file, "FORMAT", 1)
    return scene.score(scene.good)


def another_method(scene: Scene) -> Got:
    file = model_file.read(scene.model)
    model_file.write(scene.model, file.tensors, {**file.facts, "method": "patchcore"})
    return scene.score(scene.good)


def truncated_model(scene: Scene) -> Got:
    content = scene.model.read_bytes()
    scene.model.write_bytes(content[: len(content) // 2])
    return scene.score(scene.good)


def tampered_model(scene: Scene) -> Got:
    content = scene.model.read_bytes()
    assert content.count(b'target_fpr\\": 0.05') == 1
    scene.model.write_bytes(content.replace(b'target_fpr\\": 0.05', b'target_fpr\\": 0.50'))
    return scene.score(scene.good)


class Payload:
    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, int]]:
        return os.open, (str(self.trace), os.O_CREAT)


def pickled_model(scene: Scene) -> Got:
    scene.model.write_bytes(pickle.dumps(Payload(scene.folder / "was-run")))
    done = scene.score(scene.good)
    torch.save(Payload(scene.folder / "was-run"), scene.model)
    assert scene.score(scene.good).words == done.words
    assert not (scene.folder / "was-run").exists()
    return done


# Fitting -------------------------------------------------------------------------------------


def one_picture(scene: Scene) -> Got:
    return scene.fit(scene.folder_of(a=encoded(parts.normal(1)[0])).rename(scene.folder / "a.png"))


def identical(scene: Scene) -> Got:
    folder = scene.folder / "same"
    parts.write(np.repeat(parts.normal(1), 60, axis=0), folder)
    done = scene.fit(folder)
    scored = scene.run(
        "score",
        done.answer["model"],
        folder / "000.png",
        scene.file("s", encoded(parts.scratched(1)[0])),
    )
    assert decisions(scored) == ["normal", "anomalous"]
    return done


def some_unreadable(scene: Scene) -> Got:
    (scene.good / "005.png").write_bytes(b"no picture")
    done = scene.fit(scene.good)
    (unreadable,) = done.answer["provenance"]["unreadable"]
    assert unreadable["name"] == "005.png"
    return done


def all_unreadable(scene: Scene) -> Got:
    for path in scene.good.iterdir():
        path.write_bytes(b"")
    return scene.fit(scene.good)


def bad_toml(scene: Scene) -> Got:
    return scene.fit(scene.good, "--config", scene.file("c.toml", b"size: 64"))


def missing_folder(scene: Scene) -> Got:
    output = scene.folder / "some" / "where" / "new.safetensors"
    tiny = (f"--set={name}={value}" for name, value in parts.TINY.items())
    done = scene.run("fit", "pca", scene.good, "-o", output, *tiny)
    assert output.exists()
    return done


def protected_folder(scene: Scene) -> Got:
    scene.monkeypatch.setattr("os.access", lambda *_: False)
    return scene.fit(scene.good)


def existing_model(scene: Scene) -> Got:
    (scene.folder / "new.safetensors").write_text("precious")
    done = scene.fit(scene.good)
    assert (scene.folder / "new.safetensors").read_text() == "precious"
    return done


@contextmanager
def disk_with_room_for(size: int) -> Iterator[None]:
    """No file can grow beyond `size` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def full_disk_model(scene: Scene) -> Got:
    before = set(scene.folder.iterdir())
    with disk_with_room_for(2000):
        done = scene.fit(scene.good, "--no-report")
    left = set(scene.folder.iterdir()) - before
    assert {path.name for path in left} <= {"new.run"}  # to go on from, once there is room
    return done


def full_disk_scores(scene: Scene) -> Got:
    output = scene.file("s.csv", b"of yesterday")
    for number in range(5):
        shutil.copytree(scene.good, scene.folder / "many" / str(number))
    with disk_with_room_for(2000):
        status = main(
            ["score", str(scene.model), str(scene.folder / "many"), "-o", str(output), "-q"]
        )
    _, err = scene._capture.readouterr()
    assert output.read_bytes() == b"of yesterday"
    return Got(status, err, {})


# Interrupted and simultaneous runs -----------------------------------------------------------


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    for _ in range(6000):
        if condition():
            return
        if process.poll() is not None:
            break
        time.sleep(0.01)
    pytest.fail(f"it did not get that far: {process.communicate()}")


def start(*words: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, *map(str, words), "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> Got:
    out, err = process.communicate(timeout=120)
    return got(process.returncode, out, err)


def interrupted_fit(scene: Scene) -> Got:
    run = scene.folder / "run"
    words = ["fit", "cbigan", scene.good, "-o", scene.folder / "new.safetensors", "--no-report"]
    words += ["--run-dir", run, "--set=size=32", "--set=width=2", "--set=latent=4"]
    words += ["--set=log_every=1", "--set=batch_size=4"]
    process = start(*words, "--steps", 1_000_000)
    log = run / "log.jsonl"
    wait_for(lambda: log.exists() and log.stat().st_size > 0, process)
    process.send_signal(signal.SIGINT)
    done = finish(process)
    assert not (scene.folder / "new.safetensors").exists()
    match = re.search(r"after step (\d+)", done.words)
    assert match is not None
    steps = int(match[1])
    resumed = scene.run(*words, "--steps", steps + 3, "--resume")
    assert resumed.status == 0
    assert resumed.answer["provenance"]["steps"] == steps + 3
    return done


def other_settings_resumed(scene: Scene) -> Got:
    words = [scene.good, "--run-dir", scene.folder / "run", "--no-report", "--steps", 2]
    words += ["--set=width=2", "--set=latent=4", "--set=batch_size=4", "--set=checkpoint_every=1"]
    output = ["-o", scene.folder / "new.safetensors", "--overwrite", "--set=size=32"]
    assert scene.run("fit", "autoencoder", *words, *output).status == 0
    return scene.run("fit", "autoencoder", *words, *output, "--resume", "--set=lr=1")


def interrupted_score(scene: Scene) -> Got:
    for number in range(200):
        shutil.copytree(scene.good, scene.folder / "many" / str(number))
    maps, output = scene.folder / "maps", scene.file("s.csv", b"of yesterday")
    process = start("score", scene.model, scene.folder / "many", "--maps", maps, "-o", output)
    wait_for(lambda: maps.exists() and any(maps.glob("*.png")), process)
    process.send_signal(signal.SIGINT)
    done = finish(process)
    assert output.read_bytes() == b"of yesterday"
    for path in maps.glob("*.png"):
        with Image.open(path) as image:
            image.load()
    return done


def two_at_once(scene: Scene) -> Got:
    output = scene.folder / "new.safetensors"
    tiny = [f"--set={name}={value}" for name, value in parts.TINY.items()]
    both = [
        start("fit", "pca", scene.good, "-o", output, "--overwrite", "--seed", seed, *tiny)
        for seed in (1, 2)
    ]
    first, second = map(finish, both)
    assert first.status == second.status
    assert Detector.load(output).provenance["seed"] in (1, 2)
    assert output.with_suffix(".html").read_text(encoding="utf-8").rstrip().endswith("</html>")
    return Got(first.status, first.words + second.words, {})


# Labelled pictures ---------------------------------------------------------------------------


def labelled(scene: Scene, mask: bytes) -> Path:
    root = scene.folder / "data"
    parts.write(parts.normal(3), root / "test" / "good")
    parts.write(parts.scratched(1), root / "test" / "scratch")
    scene.file("data/ground_truth/scratch/000_mask.png", mask)
    return root


def wrong_mask(scene: Scene) -> Got:
    root = labelled(scene, encoded(np.full((8, 8), 255, np.uint8)))
    return scene.run("evaluate", scene.model, root)


def damaged_mask(scene: Scene) -> Got:
    return scene.run("evaluate", scene.model, labelled(scene, b"no picture"))


def no_anomalous(scene: Scene) -> Got:
    return scene.run("evaluate", scene.model, scene.folder)


def no_labels(scene: Scene) -> Got:
    return scene.run("evaluate", scene.model, scene.good)


class Case(NamedTuple):
    given: str
    do: Callable[[Scene], Got]
    status: int = 0
    says: str = ""
    """Also to be found on the page."""


def grey(value: float, dtype: Any) -> np.ndarray:
    return np.full((8, 8), value, dtype)


CASES = [
    # Pictures
    Case("a damaged picture", damaged, 1, "is damaged or cut off"),
    Case("a truncated picture", truncated, 1, "is damaged or cut off"),
    Case(
        "a picture of 0 bytes",
        lambda s: s.score(
            s.folder_of(**{"a.png": b" "}).joinpath("a.png").write_bytes(b"") or s.folder / "new"
        ),
        1,
        "is empty (0 bytes)",
    ),
    Case(
        "a text file renamed to .png",
        lambda s: s.score(s.file("a.png", b"Dear Sir or Madam")),
        1,
        "is no picture, or too damaged to tell",
    ),
    Case("an unreadable picture among good ones", among_good_ones, 1, "is no picture"),
    Case(
        "a picture of 1 x 1 pixels",
        lambda s: s.score(s.file("a.png", encoded(grey(9, np.uint8)[:1, :1]))),
        1,
        "each side must be 4 pixels or more",
    ),
    Case("a picture whose header says 20000 x 20000", enormous, 1, "over the limit of 100 million"),
    Case("an animated picture", animated),
    Case(
        "a picture without read permission",
        without_permission,
        1,
        "cannot be read (Permission denied)",
    ),
    Case("a pipe named like a picture", pipe, 1, "is not a file"),
    Case("a link that leads nowhere", dangling, 1, "does not exist"),
    Case("a folder with a link to itself", link_to_itself),
    Case("a path that does not exist", lambda s: s.score(s.folder / "none"), 1, "there is no"),
    Case(
        "an empty folder",
        lambda s: s.score((s.folder / "empty").mkdir() or s.folder / "empty"),
        1,
        "no pictures; looked for",
    ),
    Case(
        "a folder of folders without pictures",
        lambda s: s.fit(s.file("a/b/c.txt", b"x").parents[1]),
        1,
        "found 1 .txt in it and its 1 subfolders",
    ),
    Case("names that are not ASCII", named("Mutter ü 螺母 😀.png")),
    Case("names of 255 bytes", named("n" * 251 + ".png")),
    Case("names that are not valid text", not_utf8),
    Case("pictures of one name in two folders", named("a/1.png", "b/1.png")),
    Case("a picture that is named twice", twice),
    # Arrays
    Case(
        "an array with NaN",
        lambda s: s.array(grey(np.nan, np.float32)),
        1,
        "has the value nan; floating point pictures must be finite and in [0, 1]",
    ),
    Case(
        "an array with infinity",
        lambda s: s.array(grey(np.inf, np.float64)),
        1,
        "has the value inf",
    ),
    Case(
        "a floating point array with values up to 255",
        lambda s: s.array(grey(200, np.float32)),
        1,
        "give 8 bit values as uint8",
    ),
    Case(
        "an array of the wrong dtype",
        lambda s: s.array(grey(1, np.int64)),
        1,
        "has dtype int64; convert it to uint8",
    ),
    Case("an array of objects", lambda s: s.array(np.full((8, 8), None)), 1, "has dtype object"),
    Case(
        "an array with 5 channels",
        lambda s: s.array(np.zeros((2, 8, 8, 5), np.uint8)),
        1,
        "with C in 1..4, got shape (2, 8, 8, 5)",
    ),
    Case(
        "an array with channels first",
        lambda s: s.array(np.zeros((2, 3, 8, 8), np.uint8)),
        1,
        "is channels-first; give np.moveaxis(array, 1, -1)",
    ),
    # Models
    Case(
        "no model", lambda s: s.run("score", s.folder / "none", s.good), 1, "cannot read the model"
    ),
    Case("a folder as model", lambda s: s.run("score", s.good, s.good), 1, "Is a directory"),
    Case(
        "a text file as model",
        lambda s: s.run("score", s.file("a.txt", b"I am a model"), s.good),
        1,
        "is damaged or no model of onlygood",
    ),
    Case(
        "a model of another version",
        another_version,
        1,
        "has format 2, this onlygood reads format 1",
    ),
    Case(
        "a model of a method that is unknown here", another_method, 1, 'unknown method "patchcore"'
    ),
    Case("a truncated model", truncated_model, 1, "is damaged or no model of onlygood"),
    Case(
        "a model that was changed by hand",
        tampered_model,
        1,
        "its contents do not match its checksum",
    ),
    Case(
        "a pickle as model",
        pickled_model,
        1,
        "is a pickle or zip, which could run code when loaded",
    ),
    # Fitting
    Case("one normal picture only", one_picture, 1, "1 picture is too few"),
    Case("pictures that are all identical", identical),
    Case("some unreadable pictures to learn from", some_unreadable),
    Case("only unreadable pictures to learn from", all_unreadable, 1, "can be read; the first"),
    Case(
        "an unknown method",
        lambda s: s.fit(s.good, method="pac"),
        1,
        'unknown method "pac"; did you mean "pca"?',
    ),
    Case("an unknown preset", lambda s: s.fit(s.good, "--preset=papr"), 1, 'has no preset "papr"'),
    Case(
        "an unknown setting",
        lambda s: s.fit(s.good, "--set=component=3"),
        1,
        'did you mean "components"?',
    ),
    Case(
        "a setting of the wrong type",
        lambda s: s.fit(s.good, "--set=components=few"),
        1,
        "components takes a whole number, got 'few'",
    ),
    Case(
        "a setting out of its range",
        lambda s: s.fit(s.good, "--set=components=0"),
        1,
        "components must be 1 or more, got 0",
    ),
    Case(
        "a size that the networks cannot have",
        lambda s: s.fit(s.good, "--set=size=100", method="autoencoder"),
        1,
        "a side that is a power of two",
    ),
    Case("a settings file that is no TOML", bad_toml, 1, "is not a TOML file"),
    Case(
        "a false-alarm rate of 5 in place of 0.05",
        lambda s: s.fit(s.good, "--target-fpr=5"),
        1,
        "target_fpr must lie between 0 and 1 (0.05 is 5 %), got 5",
    ),
    Case(
        "a group pattern that matches no name",
        lambda s: s.fit(s.good, "--group-by=part(.)"),
        1,
        "does not match this name",
    ),
    Case("an output folder that does not exist", missing_folder),
    Case(
        "an output folder that may not be written to",
        protected_folder,
        1,
        "is no folder that you may write to",
    ),
    Case("an output that exists", existing_model, 1, "say --overwrite to replace it"),
    Case("a full disk while a model is saved", full_disk_model, 1, "nothing was left half written"),
    Case("an interrupted fit", interrupted_fit, 130, "repeat the command with --resume to go on"),
    Case(
        "nothing to resume",
        lambda s: s.fit(s.good, "--resume", "--steps=1", method="autoencoder"),
        1,
        "there is no checkpoint",
    ),
    Case(
        "a run resumed with other settings",
        other_settings_resumed,
        1,
        "belongs to a run with another method, settings, seed or pictures",
    ),
    Case("two runs that write one model", two_at_once),
    # Scoring, evaluating, calibrating
    Case(
        "a full disk while scores are saved", full_disk_scores, 1, "nothing was left half written"
    ),
    Case(
        "an interrupted scoring",
        interrupted_score,
        130,
        "interrupted; no file was left half written",
    ),
    Case(
        "a table of an unknown format",
        lambda s: s.score(s.good, "-o", s.folder / "s.xlsx"),
        1,
        "the suffix says the format, one of .csv, .json, .parquet",
    ),
    Case(
        "a mask of another size than its picture",
        wrong_mask,
        1,
        "the mask is 8 x 8, its picture 20 x 24",
    ),
    Case("a damaged mask", damaged_mask, 1, "000_mask.png: is no picture"),
    Case("a test set without anomalous pictures", no_anomalous, 1, "no anomalous pictures"),
    Case(
        "a test set without labels",
        no_labels,
        1,
        "no labels; needs a subfolder good or ok or normal",
    ),
    Case(
        "too few pictures for the promise",
        lambda s: s.run("calibrate", s.model, s.good, "--target-fpr=0.01"),
        1,
        "needs 230 normal pictures; 12 were given",
    ),
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "m.safetensors"
    parts.fit().save(path)
    return path


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.given)
def test_bad_input(
    case: Case,
    model: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done = case.do(Scene(tmp_path, model, capfd, monkeypatch))
    assert done.status == case.status, done.words
    assert case.says in done.words
    assert not list(tmp_path.rglob("*.partial")), "something was left half written"
    if case.says and done.answer.get("error"):
        assert case.says in done.answer["error"]
        assert "\n" not in done.answer["error"], "an error is one sentence"


def rows() -> list[Sequence[str]]:
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    table = [line for line in lines if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in table[1:]]


def test_the_page_has_a_row_for_each_case() -> None:
    assert [given for given, *_ in rows()] == [case.given for case in CASES]


def test_the_page_quotes_what_is_said() -> None:
    for case, (_, status, words) in zip(CASES, rows(), strict=True):
        assert status == str(case.status), case.given
        assert case.says in words.replace("`", ""), case.given
