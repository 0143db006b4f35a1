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
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image

from onlygood import Detector
from onlygood.cli import main
from onlygood.core.errors import OnlygoodError
from onlygood.detector import model_file
from tests import parts

PAGE = Path(__file__).parents[1] / "docs" / "bad-inputs.md"
COMMAND = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job would ignore it
from onlygood.cli import main
sys.exit(main())
"""


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

    def fit(self, folder: Path, *words: object) -> Got:
        """Fit `pca`; `new.safetensors` unless the words say otherwise."""
        tiny = [f"--set={name}={value}" for name, value in parts.TINY.items()]
        output = self.folder / "new.safetensors"
        return self.run("fit", "pca", folder, "-o", output, *tiny, *words)

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


def empty(scene: Scene) -> Got:
    scene.file("a.png").write_bytes(b"")
    return scene.score(scene.folder / "a.png")


def empty_folder(scene: Scene) -> Got:
    (scene.folder / "empty").mkdir()
    return scene.score(scene.folder / "empty")


def no_pictures(scene: Scene) -> Got:
    scene.file("a/b/c.txt", b"no picture")
    return scene.fit(scene.folder / "a")


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


def pipe_of_names(scene: Scene) -> Got:
    os.mkfifo(scene.folder / "names")
    return scene.fit(scene.good, "--leave-out", scene.folder / "names")


def report_into_a_pipe(scene: Scene) -> Got:
    os.mkfifo(scene.folder / "pipe")
    (scene.folder / "page.html").symlink_to("pipe")
    found = scene.fit(scene.good, "--report", scene.folder / "page.html")
    assert not (scene.folder / "pipe").is_file()
    return found


def maps_among_pictures(scene: Scene) -> Got:
    return scene.score(scene.good, "--maps", scene.good / "maps")


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


def text_model(scene: Scene) -> Got:
    scene.model.write_text("I am a model.")
    return scene.score(scene.good)


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
    scene.file("alone/a.png")
    return scene.fit(scene.folder / "alone")


def identical(scene: Scene) -> Got:
    folder = scene.folder / "same"
    parts.write(np.repeat(parts.normal(1), 60, axis=0), folder)
    done = scene.fit(folder)
    odd = scene.file("odd.png", encoded(parts.scratched(1)[0]))
    scored = scene.run("score", done.answer["model"], folder / "000.png", odd)
    assert decisions(scored) == ["normal", "anomalous"]
    return done


def some_unreadable(scene: Scene) -> Got:
    (scene.good / "005.png").write_bytes(b"no picture")
    done = scene.fit(scene.good)
    (unreadable,) = done.answer["provenance"]["unreadable"]
    assert unreadable["name"] == "005.png"
    return done


def some_unreadable_to_calibrate(scene: Scene) -> Got:
    (scene.good / "005.png").write_bytes(b"no picture")
    done = scene.run("calibrate", scene.model, scene.good, "--target-fpr=0.3")
    assert done.answer["n_calibration"] == 11
    return done


def some_unreadable_to_evaluate(scene: Scene) -> Got:
    scene.file("scratch/a.png", encoded(parts.scratched(1)[0]))
    (scene.good / "005.png").write_bytes(b"no picture")
    done = scene.run("evaluate", scene.model, scene.folder)
    assert (done.answer["n_normal"], done.answer["n_unreadable"]) == (11, 1)
    assert f"{scene.folder}: 12 normal pictures" in done.words
    return done


def all_unreadable(scene: Scene) -> Got:
    for path in scene.good.iterdir():
        path.write_bytes(b"")
    return scene.fit(scene.good)


def wrong_size(scene: Scene) -> Got:
    output = scene.folder / "new.safetensors"
    return scene.run("fit", "autoencoder", scene.good, "-o", output, "--set=size=100")


def bad_toml(scene: Scene) -> Got:
    return scene.fit(scene.good, "--config", scene.file("c.toml", b"size: 64"))


def missing_folder(scene: Scene) -> Got:
    output = scene.folder / "some" / "where" / "new.safetensors"
    done = scene.fit(scene.good, "-o", output)
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


def foreign_run_folder(scene: Scene) -> Got:
    thesis = scene.file("new.run/thesis.txt", b"precious")
    done = scene.fit(scene.good)
    assert thesis.read_bytes() == b"precious"
    assert list(thesis.parent.iterdir()) == [thesis]
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


def full_disk_report(scene: Scene) -> Got:
    page, model = scene.folder / "r.html", scene.folder / "new.safetensors"
    room = scene.model.stat().st_size + 2000  # the report is larger
    with disk_with_room_for(room):
        done = scene.fit(scene.good, f"--report={page}")
    assert model.is_file() and not page.exists()
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
        [sys.executable, "-c", COMMAND, *map(str, words), "--json"],
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
    words += ["--set=log_every=1", "--set=batch_size=4", "--set=decay_from=1"]
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


def nothing_to_resume(scene: Scene) -> Got:
    words = ["--set=size=32", "--set=width=2", "--steps=1", "--resume"]
    output = scene.folder / "new.safetensors"
    return scene.run("fit", "autoencoder", scene.good, "-o", output, *words)


def other_settings(scene: Scene) -> Got:
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


def xlsx(scene: Scene) -> Got:
    return scene.score(scene.good, "-o", scene.folder / "scores.xlsx")


def too_few(scene: Scene) -> Got:
    return scene.run("calibrate", scene.model, scene.good, "--target-fpr", 0.01)


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


# The table -----------------------------------------------------------------------------------

Do = Callable[[Scene], Got]


class Case(NamedTuple):
    given: str
    do: Do
    status: int = 0
    says: str = ""
    """To be found on the screen, and on the page."""


def picture(content: bytes) -> Do:
    return lambda scene: scene.score(scene.file("a.png", content))


def array(pixels: np.ndarray) -> Do:
    return lambda scene: scene.array(pixels)


def filled(value: Any, dtype: Any, *shape: int) -> Do:
    return array(np.full(shape or (8, 8), value, dtype))


def other_record(scene: Scene) -> Got:
    key = {"method": "pca", "config_hash": "0", "dataset": "toy", "protocol": "gpnd", "seed": 0}
    record = json.dumps(key | {"versions": {"onlygood": "9.9"}}).encode()
    return scene.run("bench", "show", "--results", scene.file("r.jsonl", record))


def fit(*words: str) -> Do:
    return lambda scene: scene.fit(scene.good, *words)


def on(*words: str) -> Do:
    """A whole command line; MODEL, GOOD and HERE are put in."""

    def run(scene: Scene) -> Got:
        places = {"MODEL": scene.model, "GOOD": scene.good, "HERE": scene.folder}
        return scene.run(*(places.get(word, word) for word in words))

    return run


PIXEL = encoded(np.zeros((1, 1), np.uint8))

CASES = [
    # Pictures
    Case("a damaged picture", damaged, 1, "is damaged or cut off"),
    Case("a truncated picture", truncated, 1, "is damaged or cut off"),
    Case("a picture of 0 bytes", empty, 1, "is empty (0 bytes)"),
    Case("a text file renamed to .png", picture(b"Dear Sir"), 1, "is no picture, or too damaged"),
    Case("an unreadable picture among good ones", among_good_ones, 1, "is no picture"),
    Case("a picture of 1 x 1 pixels", picture(PIXEL), 1, "each side must be 4 pixels or more"),
    Case("a header that says 20000 x 20000", enormous, 1, "over the limit of 100 million"),
    Case("an animated picture", animated),
    Case("a picture without read permission", without_permission, 1, "(Permission denied)"),
    Case(
        "a pipe in place of a list of names (`--leave-out`)",
        pipe_of_names,
        1,
        "cannot be read as a list of names",
    ),
    Case(
        "a pipe, a device or a folder where a file is to be written, or a link to one",
        report_into_a_pipe,
        1,
        "cannot be written: it is no file but a pipe or device; name a file",
    ),
    Case(
        "heat maps into a folder that is scored",
        maps_among_pictures,
        1,
        "where the next command would take heat maps for pictures",
    ),
    Case("a pipe named like a picture", pipe, 1, "is not a file"),
    Case("a link that leads nowhere", dangling, 1, "does not exist"),
    Case("a folder with a link to itself", link_to_itself),
    Case("a path that does not exist", on("score", "MODEL", "none.png"), 1, "there is no none.png"),
    Case("an empty folder", empty_folder, 1, "no pictures; looked for"),
    Case("a folder of folders without pictures", no_pictures, 1, "found 1 .txt in it and its 1"),
    Case("names that are not ASCII", named("Mutter ü 螺母 😀.png")),
    Case("names of 255 bytes", named("n" * 251 + ".png")),
    Case("names that are not valid text", not_utf8),
    Case("pictures of one name in two folders", named("a/1.png", "b/1.png")),
    Case("a picture that is named twice", twice),
    # Arrays
    Case("an array with NaN", filled(np.nan, np.float32), 1, "has the value nan"),
    Case("an array with infinity", filled(np.inf, np.float64), 1, "has the value inf"),
    Case("a floating point array up to 255", filled(200, np.float32), 1, "8 bit values as uint8"),
    Case("an array of the wrong dtype", filled(1, np.int64), 1, "has dtype int64; convert it to"),
    Case("an array of objects", filled(None, object), 1, "has dtype object; convert it to"),
    Case("an array with 5 channels", filled(0, np.uint8, 2, 8, 8, 5), 1, "with C in 1..4, got"),
    Case("an array with channels first", filled(0, np.uint8, 2, 3, 8, 8), 1, "is channels-first"),
    # Models
    Case("no model", on("score", "none", "GOOD"), 1, "cannot read the model none"),
    Case("a folder as model", on("score", "GOOD", "GOOD"), 1, "Is a directory"),
    Case("a text file as model", text_model, 1, "is damaged or no model of onlygood"),
    Case("a model of another version", another_version, 1, "has format 2, this onlygood reads"),
    Case("a model of a method unknown here", another_method, 1, 'unknown method "patchcore"'),
    Case("a truncated model", truncated_model, 1, "is damaged or no model of onlygood"),
    Case("a model changed by hand", tampered_model, 1, "do not match its checksum"),
    Case("a pickle as model", pickled_model, 1, "is a pickle or zip, which could run code"),
    # Fitting
    Case("one normal picture only", one_picture, 1, "1 picture is too few"),
    Case("pictures that are all identical", identical),
    Case("some unreadable pictures to learn from", some_unreadable, 0, "cannot be read: 1 of them"),
    Case("only unreadable pictures to learn from", all_unreadable, 1, "pictures can be read; the"),
    Case("an unknown method", on("fit", "pac", "GOOD", "-o", "m"), 1, 'did you mean "pca"?'),
    Case("an unknown preset", fit("--preset=papr"), 1, 'has no preset "papr"'),
    Case("an unknown setting", fit("--set=component=3"), 1, 'did you mean "components"?'),
    Case("a setting of the wrong type", fit("--set=components=few"), 1, "takes a whole number"),
    Case("a setting out of its range", fit("--set=components=0"), 1, "must be 1 or more, got 0"),
    Case("a size that the networks cannot have", wrong_size, 1, "a side that is a power of two"),
    Case("a settings file that is no TOML", bad_toml, 1, "is not a TOML file"),
    Case("a promise of 5 in place of 0.05", fit("--target-fpr=5"), 1, "between 0 and 1 (0.05 is"),
    Case("a group pattern that no name has", fit("--group-by=x(.)"), 1, "does not match this name"),
    Case("an output folder that is not there", missing_folder),
    Case("an output folder without permission", protected_folder, 1, "that you may write to"),
    Case("an output that exists", existing_model, 1, "say --overwrite to replace it"),
    Case("a folder named like the run's", foreign_run_folder),
    Case("a full disk while a model is saved", full_disk_model, 1, "nothing was left half written"),
    Case("a model named like its report", on("fit", "GOOD", "-o", "m", "--report=m"), 1, "at once"),
    Case("an interrupted fit", interrupted_fit, 130, "repeat the command with --resume to go on"),
    Case("nothing to resume", nothing_to_resume, 1, "start without --resume"),
    Case("a run resumed with other settings", other_settings, 1, "belongs to a run with another"),
    Case("two runs that write one model", two_at_once),
    # Scoring, evaluating, calibrating
    Case("a full disk while a report is written", full_disk_report, 1, "cannot write the report"),
    Case("a full disk while scores are saved", full_disk_scores, 1, "what was scored is in "),
    Case(
        "an interrupted scoring",
        interrupted_score,
        130,
        "interrupted; what was scored until then is in ",
    ),
    Case("a table of an unknown format", xlsx, 1, "the suffix says the format, one of .csv"),
    Case("a mask of another size", wrong_mask, 1, "the mask is 8 x 8, its picture 20 x 24"),
    Case("a damaged mask", damaged_mask, 1, "000_mask.png: is no picture"),
    Case("a test set without anomalies", on("evaluate", "MODEL", "HERE"), 1, "no anomalous"),
    Case("a test set without labels", on("evaluate", "MODEL", "GOOD"), 1, "no labels; needs a"),
    Case(
        "some unreadable pictures to evaluate",
        some_unreadable_to_evaluate,
        0,
        "cannot be read: 1 of them",
    ),
    Case(
        "some unreadable pictures to calibrate on",
        some_unreadable_to_calibrate,
        0,
        "cannot be read: 1 of them",
    ),
    Case("too few pictures for the promise", too_few, 1, "needs 230 normal pictures; 12"),
    Case("an unknown table of a paper", on("bench", "table", "ama-9"), 1, 'did you mean "ama-2"?'),
    Case(
        "a folder without the data set",
        on("bench", "table", "cbigan-2", "--folder", "GOOD"),
        1,
        "has no folder of MVTec AD; give the one that",
    ),
    Case("a record of another version", other_record, 1, "is of another version of onlygood"),
]


def page_rows() -> dict[str, tuple[str, str]]:
    """The table of the page: what is given, the exit status, what the user gets."""
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    cells = [line.strip("| ").split(" | ") for line in lines if line.startswith("| ")]
    rows = [row for row in cells if len(row) == 3]  # Another table of the page has two columns.
    return {given: (status, words) for given, status, words in rows[2:]}


PAGE_ROWS = page_rows()


def quoted(words: str) -> list[str]:
    """What is said word by word: parts in backticks, parted by dots where cases differ."""
    return [part.strip() for phrase in re.findall("`(.*?)`", words) for part in phrase.split("...")]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "m.safetensors"
    parts.fit().save(path)
    return path


SLOW = (interrupted_fit, two_at_once, interrupted_score)
"""Run in processes of their own."""


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=case.given, marks=[pytest.mark.slow] if case.do in SLOW else [])
        for case in CASES
    ],
)
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
    for part in quoted(PAGE_ROWS.get(case.given, ("", ""))[1]):
        assert part in done.words, "the page says otherwise"
    left = [path for path in tmp_path.rglob("*.partial") if path.name not in done.words]
    assert not left, "something was left half written"
    if case.says and done.answer.get("error"):
        assert case.says in done.answer["error"]
        assert "\n" not in done.answer["error"], "an error is one sentence"


def test_the_page_has_a_row_for_each_case() -> None:
    assert list(PAGE_ROWS) == [case.given for case in CASES]
    assert len(CASES) == len(set(case.given for case in CASES))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.given)
def test_the_page_says_the_same(case: Case) -> None:
    status, words = PAGE_ROWS[case.given]
    assert status == str(case.status)
    assert case.says in words.replace("`", "")
