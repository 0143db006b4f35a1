import io
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from onlygood.core.errors import ConfigError, DataError, ModelFileError, OnlygoodError
from onlygood.deploy.runtime import Runtime
from onlygood.report.heatmap import overlay
from onlygood.result import Result
from onlygood.scale import Part, score
from onlygood.scale.engine import Outcomes
from onlygood.scale.results import rate
from onlygood.scale.sources import inputs_of
from onlygood.scale.units import Unit
from onlygood.scale.work import Task, Worker
from tests.command_line import Run
from tests.deploy.stream import another, normal
from tests.scale.conftest import PICTURES
from tests.scale.tables import rows, scores, summary, written

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def whole(exported: Path, line: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A job of five pictures a unit that has ended; not to be changed."""
    out = tmp_path_factory.mktemp("whole")
    ended = score(exported, line, out, pictures=5)
    assert (ended.done, ended.units, ended.failed) == (3, 3, [])
    return out


def test_rows_are_those_of_one_process(exported: Path, line: Path, whole: Path) -> None:
    """Folders come one after the other, names in order: each picture is a row, the bad one, too."""
    expected = {result.name: result for result in Runtime.load(exported).score(line)}
    found = rows(whole)
    assert len(found) == PICTURES == len(expected)
    for row in found:
        name = "a\n 'ü'.png" if row["error"] else row["uri"].removeprefix(f"{line.as_uri()}/")
        result = expected[name]
        if row["error"]:
            assert row["uri"] == (line / name).as_uri() and row["score"] is None
            assert "is no picture" in row["error"]
        else:
            assert row["score"] == pytest.approx(result.score, rel=1e-6)
            assert row["p_value"] == result.p_value
            assert {f"part_{n}" for n in result.parts} <= set(row)
        assert row["decision"] == result.decision


def test_the_summary_counts(whole: Path) -> None:
    told = summary(whole)
    assert told["counts"] == {"normal": 8, "unsure": 0, "anomalous": 3, "error": 1}
    assert told["units"] == {"done": 3, "failed": []}
    shares = {kind: of["share"] for kind, of in told["rates"].items()}
    assert shares == {"unsure": 0, "anomalous": 3 / 11, "error": 1 / PICTURES}
    assert told["drift"]["n"] == 11
    assert [error["uri"].rpartition("/")[2] for error in told["errors"]] == [
        "a%0A%20%27%C3%BC%27.png"
    ]


def test_a_rate_and_its_interval() -> None:
    # Wilson's for 3 of 11, by hand.
    found = rate(3, 11)
    assert found is not None
    assert found["low"] == pytest.approx(0.0975, abs=1e-4)
    assert found["high"] == pytest.approx(0.5656, abs=1e-4)
    assert rate(0, 0) is None


@pytest.fixture
def containers(line: Path, tmp_path: Path) -> dict[str, Any]:
    """The pictures of the folder in whatever else may hold them."""
    paths = sorted(line.rglob("*.png"))
    shards = tmp_path / "lot[3]"  # Stars alone are no part of a name.
    shards.mkdir()
    for shard, some in (("0", paths[:5]), ("1", paths[5:])):
        with tarfile.open(shards / f"{shard}.tar", "w") as archive:
            for path in some:
                archive.add(path, path.name)
                archive.add(__file__, f"{path.stem}.json")
    images = [{"bytes": path.read_bytes(), "path": path.name} for path in paths]
    table = pa.table({"label": range(len(paths)), "image": images})
    parquet.write_table(table, tmp_path / "set.parquet", row_group_size=4)
    bare = pa.table({"img": [path.read_bytes() for path in paths]})
    parquet.write_table(bare, tmp_path / "bare.parquet", row_group_size=5)
    list_of = [path for path in paths if "\n" not in path.name]
    (tmp_path / "some.txt").write_text("\n".join([*map(str, list_of), f"{tmp_path}/none.png"]))
    return {
        "tar": [shards / "0.tar", shards / "1.tar"],
        "pattern": shards / "*.tar",
        "parquet": tmp_path / "set.parquet",
        "bare": tmp_path / "bare.parquet",
        "list": tmp_path / "some.txt",
    }


@pytest.mark.parametrize("kind", ["bare", "list", "parquet", "pattern", "tar"])
def test_containers_give_what_the_folder_gives(
    exported: Path, whole: Path, containers: dict[str, Any], tmp_path: Path, kind: str
) -> None:
    score(exported, containers[kind], tmp_path / "out", pictures=5)
    assert scores(tmp_path / "out") == [
        (value if value is None else pytest.approx(value, rel=1e-6), decision)
        for value, decision in scores(whole)
    ]
    names = [row["uri"] for row in rows(tmp_path / "out")]
    assert len(set(names)) == PICTURES
    if kind in ("bare", "parquet"):
        source = containers[kind].as_uri()
        assert names == [f"{source}#{i}" for i in range(PICTURES)]
    if kind == "tar":
        assert f"{containers['tar'][0].as_uri()}#00.png" in names


def test_only_what_is_left_is_done(exported: Path, line: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    score(exported, line, out, pictures=5)
    first, *others = sorted(written(out))
    before = written(out)
    (out / "parts" / first).unlink()
    (out / "parts" / ".0123456789abcdef.partial").write_text("of a worker that was killed")
    (out / ".0123456789abcdef.partial").write_text("of a job that was killed as it made its list")
    (out / ".my.partial").write_text("of somebody else")
    told: list[tuple[int, int]] = []
    score(exported, line, out, told=lambda *pair: told.append(pair))
    assert told == [(2, 3), (3, 3)]
    after = written(out)
    assert set(after) == set(before) and len(list((out / "parts").iterdir())) == 3
    assert [after[name] for name in others] == [before[name] for name in others]
    assert after[first] > before[first]
    assert [path.name for path in out.glob("*.partial")] == [".my.partial"]


def test_the_same_unit_twice_is_the_same_file(exported: Path, line: Path, tmp_path: Path) -> None:
    for out in ("a", "b"):
        score(exported, line, tmp_path / out)
    (a,), (b,) = ((tmp_path / out / "parts").iterdir() for out in "ab")
    assert (a.name, a.read_bytes()) == (b.name, b.read_bytes())


def test_new_pictures_come_in_with_update(exported: Path, tmp_path: Path) -> None:
    out, folder = tmp_path / "out", tmp_path / "line"
    folder.mkdir()
    for i in range(4):
        (folder / f"{i}.png").write_bytes(normal(i))
    score(exported, folder, out, pictures=2, maps="all")
    before = written(out)
    (folder / "4.png").write_bytes(normal(4))
    score(exported, folder, out, pictures=2, maps="all")
    assert written(out) == before  # the list is frozen

    (folder / "0.png").unlink()  # is kept: it was scored
    (folder / "2.png").write_bytes(normal(99))  # takes its neighbour with it
    os.utime(folder / "2.png", ns=(0, 1))
    ended = score(exported, folder, out, pictures=2, maps="all", update=True)
    after = written(out)
    assert {path.stem for path in (out / "maps").iterdir()} == {Path(name).stem for name in after}
    assert len(before.keys() & after.keys()) == 1 and len(after) == 3
    assert sorted(row["uri"][-5:] for row in rows(out)) == [f"{i}.png" for i in range(5)]
    assert ended.summary is not None and ended.summary["pictures"] == 5


def test_a_parquet_file_that_changes_gives_each_row_once(exported: Path, tmp_path: Path) -> None:
    file, out = tmp_path / "set.parquet", tmp_path / "out"

    def write(in_a_group: int, stamp: int) -> None:
        table = pa.table({"image": [normal(i) for i in range(6)]})
        parquet.write_table(table, file, row_group_size=in_a_group)
        os.utime(file, ns=(0, stamp))

    class Late:
        """Before the first unit is done, the file is another."""

        def run(self, task: Task, units: Iterable[Unit]) -> Outcomes:
            todo = list(units)
            write(1, 1)
            yield from Part(0, 1).run(task, todo)

    write(2, 0)
    ended = score(exported, file, out, pictures=2, on=Late())
    assert len(ended.failed) == 3
    assert all(f"{file} has changed since it was listed" in one["error"] for one in ended.failed)

    write(2, 2)
    score(exported, file, out, pictures=2, update=True)
    write(3, 3)  # Two groups, where there were three.
    ended = score(exported, file, out, pictures=2, update=True)
    assert [row["uri"] for row in rows(out)] == [f"{file.as_uri()}#{i}" for i in range(6)]


def test_a_folder_belongs_to_one_job(
    exported: Path, model: Path, whole: Path, line: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="another value of --maps: none, not all"):
        score(exported, line, whole, maps="all")
    with pytest.raises(ConfigError, match=r"not on .*; name another folder, or say --update"):
        score(exported, line / "deep", whole)
    another(model)
    with pytest.raises(ConfigError, match="another value of the model"):
        score(model, line, whole)


@pytest.mark.parametrize("content", [b"", b"\xff", b"[]", b"{}", b'{"format": 1, "model": {}}'])
def test_a_job_file_that_is_none_is_refused(
    exported: Path, line: Path, tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "job.json").write_bytes(content)
    with pytest.raises(ConfigError, match=rf"job\.json in {tmp_path} is of something else"):
        score(exported, line, tmp_path)


def test_two_jobs_at_once_are_refused(exported: Path, line: Path, tmp_path: Path) -> None:
    refusals = []

    def at_work(done: int, total: int) -> None:
        with pytest.raises(OnlygoodError) as refused:
            score(exported, line, tmp_path)
        refusals.append(str(refused.value))

    score(exported, line, tmp_path, told=at_work)
    words = f"another job is at work in {tmp_path}; wait until it ends, or name another folder"
    assert refusals == [words] * 2


def test_what_another_has_done_meanwhile_has_not_failed(
    exported: Path, line: Path, tmp_path: Path
) -> None:
    class Slower:
        def run(self, task: Task, units: Iterable[Unit]) -> Outcomes:
            for outcome in Part(0, 1).run(task, units):
                yield outcome._replace(error="its worker died")

    ended = score(exported, line, tmp_path, on=Slower())
    assert (ended.done, ended.failed) == (1, []) and ended.summary == summary(tmp_path)


def test_a_model_that_is_replaced_stops_the_job(model: Path, line: Path, tmp_path: Path) -> None:
    class Late:
        def run(self, task: Task, units: Iterable[Unit]) -> Outcomes:
            another(model)
            yield from Part(0, 1).run(task, units)

    with pytest.raises(ModelFileError, match="is not the model that was asked for"):
        score(model, line, tmp_path / "out", on=Late())
    assert not (tmp_path / "out" / "parts").exists()


def test_parts_share_a_folder(exported: Path, line: Path, whole: Path, tmp_path: Path) -> None:
    done = []
    begun = tmp_path / "parts" / ".0123456789abcdef.partial"  # of another part, it may be

    def second(*_: int) -> None:
        if not done:
            begun.parent.mkdir()
            begun.touch()
            done.append(score(exported, line, tmp_path, on=Part(1, 2), pictures=5))

    last = score(exported, line, tmp_path, on=Part(0, 2), pictures=5, told=second)
    assert (done[0].done, done[0].summary, begun.exists()) == (1, None, True)
    assert (last.done, last.units) == (3, 3) and last.summary == summary(whole)
    assert rows(tmp_path) == rows(whole)
    with pytest.raises(ConfigError, match="parts of 2 are 0/2 to 1/2, got 2/2"):
        Part(2, 2)


@pytest.mark.parametrize("maps", ["all", "anomalous"])
def test_maps(exported: Path, line: Path, tmp_path: Path, maps: str) -> None:
    score(exported, line, tmp_path, maps=maps)
    found = rows(tmp_path)
    wanted = [r for r in found if not r["error"] and maps in ("all", r["decision"])]
    told = {r.name: r for r in Runtime.load(exported).stream(line, keep=True)}
    (archive,) = (tmp_path / "maps").iterdir()
    with tarfile.open(archive) as file:
        assert file.getnames() == [row["map"] for row in wanted]
        for row in wanted:
            entry = file.extractfile(row["map"])
            assert entry is not None
            result = told[row["uri"].removeprefix(f"{line.as_uri()}/")]
            assert result.picture is not None and result.map is not None
            outline = result.decision != "normal"
            np.testing.assert_array_equal(
                np.asarray(Image.open(entry)),
                np.asarray(overlay(result.picture, result.map, outline=outline)),
            )
            assert row["regions"] == [pytest.approx(r._asdict()) for r in result.regions]
    assert len(wanted) == {"all": 11, "anomalous": 3}[maps]
    assert any(row["regions"] for row in wanted)
    assert {row["regions"] is None for row in found if row not in wanted} == {True}


def test_a_map_of_a_normal_picture_marks_nothing(exported: Path, tmp_path: Path) -> None:
    digest = Runtime.load(exported).sha256
    worker = Worker(Task(out=tmp_path.as_uri(), model=exported, sha256=digest, maps="all"))
    picture = np.full((6, 8, 3), 100, np.uint8)
    heat = np.float32(1.5) * (np.arange(8) < 4) * np.ones((6, 1), np.float32)
    result = Result("a.png", 1.0, 0.5, "normal", {}, heat, None, picture)
    with tarfile.open(tmp_path / "maps.tar", "w") as archive:
        worker._mapped(0, result, archive)
    with tarfile.open(tmp_path / "maps.tar") as archive:
        entry = archive.extractfile("000000.png")
        assert entry is not None
        shown = np.asarray(Image.open(entry))
    np.testing.assert_array_equal(shown, np.asarray(overlay(picture, heat, outline=False)))


def test_a_vanished_source_fails_its_units_and_comes_back(
    exported: Path, line: Path, tmp_path: Path, run: Run
) -> None:
    folder, out = tmp_path / "line", tmp_path / "out"
    folder.mkdir()
    for i in range(3):
        (folder / f"{i}.png").write_bytes(normal(i))
    score(exported, [folder, line], out, pictures=3)
    for path in (out / "parts").iterdir():
        path.unlink()
    folder.rename(tmp_path / "elsewhere")
    done = run("score", exported, folder, line, "-o", f"{out}/", "--json")
    assert done.status == 1
    (failure,) = done.answer["units"]["failed"]
    assert failure["first"] == str(folder / "0.png")
    assert "3 of 3 pictures are gone since they were listed" in failure["error"]
    assert f"unit {failure['unit']} (from {folder / '0.png'}): {failure['error']}" in done.err
    assert done.answer["pictures"] == PICTURES  # the others are done
    assert done.answer["counts"]["anomalous"]
    assert run("score", exported, folder, line, "-o", f"{out}/", "--fail-on-anomaly").status == 1
    (tmp_path / "elsewhere").rename(folder)
    assert run("score", exported, folder, line, "-o", f"{out}/").status == 0
    assert run("score", exported, folder, line, "-o", f"{out}/", "--fail-on-anomaly").status == 2
    assert summary(out)["pictures"] == PICTURES + 3


def test_a_damaged_shard_fails_its_unit(
    exported: Path, containers: dict[str, Any], tmp_path: Path
) -> None:
    shard = containers["tar"][0]
    shard.write_bytes(shard.read_bytes()[:9000])
    ended = score(exported, containers["tar"], tmp_path / "out", pictures=5)
    (failure,) = ended.failed
    assert f"{shard} cannot be read: unexpected end of data" in failure["error"]


def opened(shard: Path) -> tuple[bytes, int]:
    """The bytes of a tar, and where its third picture begins."""
    with tarfile.open(shard) as archive:
        return shard.read_bytes(), archive.getmembers()[4].offset


@pytest.mark.parametrize("harm", ["changed", "in a header", "between members"])
def test_a_shard_that_breaks_off_between_its_pictures_fails_too(
    exported: Path, containers: dict[str, Any], tmp_path: Path, harm: str
) -> None:
    shard = containers["tar"][0]
    content, third = opened(shard)
    shard.write_bytes(
        {
            "changed": content[:third] + b"\xff" * 8 + content[third + 8 :],
            "in a header": content[: third + 200],
            "between members": content[:third],
        }[harm]
    )
    (failure,) = score(exported, containers["tar"], tmp_path / "out", pictures=5).failed
    assert "it is damaged or cut off, or has no end mark" in failure["error"]


@pytest.mark.parametrize("harm", ["a hole", "joined"])
def test_a_shard_that_goes_on_behind_its_end_fails_too(
    exported: Path, containers: dict[str, Any], tmp_path: Path, harm: str
) -> None:
    shard = containers["tar"][0]
    content, third = opened(shard)
    hole = content[:third] + bytes(512) + content[third + 512 :]
    shard.write_bytes(hole if harm == "a hole" else 2 * content)
    (failure,) = score(exported, containers["tar"], tmp_path / "out", pictures=5).failed
    assert "it goes on behind its end mark" in failure["error"]


def test_links_in_a_tar_are_read_or_told(exported: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "links.tar", "w") as archive:

        def add(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> None:
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = kind, link
            content = normal(1) if kind == tarfile.REGTYPE else b""
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))

        add("folder.png", tarfile.DIRTYPE)
        add("./a.png")
        add("b.png", tarfile.LNKTYPE, "a.png")
        add("c.png", tarfile.LNKTYPE, "./b.png")
        add("later.png", tarfile.LNKTYPE, "none.png")
        add("symbolic.png", tarfile.SYMTYPE, "a\udcff.png")
        add("pipe.png", tarfile.FIFOTYPE)
        add("last.png")
    score(exported, tmp_path / "links.tar", tmp_path / "out")
    found = rows(tmp_path / "out")
    assert [(row["uri"].rpartition("#")[2], row["error"] is None) for row in found] == [
        *[(name, True) for name in ("./a.png", "b.png", "c.png")],
        *[(name, False) for name in ("later.png", "symbolic.png", "pipe.png")],
        ("last.png", True),
    ]
    assert len({row["score"] for row in found}) == 2  # of all that are read one, and none
    reasons = [row["error"].partition("png: ")[2] for row in found if row["error"]]
    assert [reason.partition(";")[0] for reason in reasons] == [
        "is a hard link to none.png, which is not stored before it",
        "is a symbolic link to a\ufffd.png, which a tar that is gone through once cannot follow",
        "is no file",
    ]
    assert all(reason.endswith("; store the file itself (tar --dereference)") for reason in reasons)


def test_a_tar_without_pictures_fails_its_unit(exported: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "empty.tar", "w") as archive:
        archive.add(__file__, "label.json")
    (failure,) = score(exported, tmp_path / "empty.tar", tmp_path / "out").failed
    assert f"there are no pictures in {tmp_path / 'empty.tar'}; looked for" in failure["error"]


def test_a_unit_that_is_no_more_is_counted_no_more(
    exported: Path, containers: dict[str, Any], tmp_path: Path
) -> None:
    out, (gone, _) = tmp_path / "out", containers["tar"]
    gone.write_bytes(gone.read_bytes()[:9000])
    assert score(exported, containers["pattern"], out).failed
    gone.unlink()
    ended = score(exported, containers["pattern"], out, update=True)
    assert (ended.failed, summary(out)["units"]["failed"]) == ([], [])


def test_folders_in_lists_and_patterns_are_searched(
    exported: Path, line: Path, whole: Path, tmp_path: Path
) -> None:
    # As an editor on Windows writes it.
    (tmp_path / "some.txt").write_text(str(line), "utf-8-sig")
    for place, source in (("a", tmp_path / "some.txt"), ("b", line.parent / f"{line.name}*")):
        score(exported, source, tmp_path / place)
        assert rows(tmp_path / place) == rows(whole)


def test_only_line_feeds_end_the_lines_of_a_list(tmp_path: Path) -> None:
    names = ["a\u2028b.png", "a\x85b.png", "a\rb.png", " c .png"]
    named = "\r\n".join(f"{tmp_path}/{name}" for name in names)
    (tmp_path / "some.txt").write_bytes(f"\ufeff{named}\n\n".encode())
    found = [item.uri for item in inputs_of([tmp_path / "some.txt"])]
    assert found == [(tmp_path / name).as_uri() for name in names]


def test_what_several_sources_name_is_one_input(line: Path, tmp_path: Path) -> None:
    paths = [path for path in sorted(line.rglob("*.png")) if "\n" not in path.name]
    table = tmp_path / "two.parquet"
    parquet.write_table(pa.table({"img": [b"", b""]}), table, row_group_size=1)
    (tmp_path / "list.txt").write_text("\n".join([*map(str, [*paths, table, paths[0], table])]))
    once = list(inputs_of([line]))
    assert list(inputs_of([paths[0], line, f"{line}/", paths[0]])) == [
        *(item for item in once if item.uri == paths[0].as_uri()),
        *(item for item in once if item.uri != paths[0].as_uri()),
    ]
    assert [(item.uri, item.group) for item in inputs_of([tmp_path / "list.txt"])] == [
        *((path.as_uri(), -1) for path in paths),
        *((table.as_uri(), group) for group in (0, 1)),
    ]


def test_masks_of_a_data_set_are_no_inputs(tmp_path: Path) -> None:
    picture, mask = tmp_path / "test/hole/a.png", tmp_path / "ground_truth/hole/a_mask.png"
    for path in (picture, mask):
        path.parent.mkdir(parents=True)
        path.touch()
    assert [item.uri for item in inputs_of([tmp_path])] == [picture.as_uri()]
    assert [item.uri for item in inputs_of([mask.parent])] == [mask.as_uri()]


def test_a_full_disk_stops_the_job(exported: Path, line: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    score(exported, line, out)
    (unit,) = (out / "parts").iterdir()
    content = unit.read_bytes()
    unit.unlink()
    # A limit on the size of files is the full disk that every user can have.
    again = "from onlygood.scale import score; import sys; score(*sys.argv[1:])"
    words = [sys.executable, "-c", again, exported, line, out]
    limited = ["bash", "-c", 'ulimit -f 2; exec "$@"', "-", *words]
    stopped = subprocess.run(limited, capture_output=True, text=True)
    assert stopped.returncode == 1
    told = f"cannot write parts/{unit.name} to {out}: File too large; what is there is whole"
    assert told in stopped.stderr.splitlines()[-1]
    assert list((out / "parts").iterdir()) == [] and not (out / "summary.json").exists()
    assert subprocess.run(words).returncode == 0
    assert unit.read_bytes() == content


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("none", "there is no .*none; name pictures, folders of pictures, or lists"),
        ("n" * 300, "there is no .*nnn; name pictures"),
        ("empty", "there are no pictures in .*empty; looked for .bmp"),
        ("*.tar", r"there are no pictures in .*\*.tar"),
        ("labels.parquet", "has no column of encoded pictures: looked for image, .* among label"),
        ("none.parquet", r"there are no pictures in .*none\.parquet"),
        ("line.tar.gz", r"line\.tar\.gz is compressed; unpack it, or give .* in a plain \.tar"),
    ],
)
def test_sources_that_give_nothing(exported: Path, tmp_path: Path, source: str, words: str) -> None:
    (tmp_path / "empty").mkdir()
    parquet.write_table(pa.table({"label": [1]}), tmp_path / "labels.parquet")
    parquet.write_table(pa.table({"image": pa.array([], pa.binary())}), tmp_path / "none.parquet")
    (tmp_path / "line.tar.gz").write_bytes(b"\x1f\x8b")
    with pytest.raises(DataError, match=words):
        score(exported, tmp_path / source, tmp_path / "out")
    left = {path.name for path in (tmp_path / "out").iterdir()}
    assert left <= {".lock", ".preparing"}  # no job that would refuse the right source


def test_a_part_says_what_others_have_left(
    run: Run, exported: Path, line: Path, tmp_path: Path
) -> None:
    words = ("score", exported, line, "-o", tmp_path / "out", "--part", "1/2")  # of one unit
    done = run(*words)
    assert (done.status, done.out) == (0, "0 of 1 units are done; other parts do the rest\n")
    assert run(*words, "--json").answer == {"units": {"done": 0, "of": 1, "failed": []}}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--workers", "2"], "say -o DIR/"),
        (["-o", "scores.csv", "--workers", "2"], "scores.csv is named like a table; say -o DIR/"),
        (["-o", "out/", "--part", "3"], "--part is I/N, 0/64 for example, got '3'"),
        (["-o", "out/", "--part", "0/2", "--ray", "auto"], "exclude each other"),
        (["-o", "out/", "--part", "0/2", "--update"], "--update and --part exclude each other"),
        (["-o", "out/", "--part", "0/2", "--fail-on-anomaly"], "a part knows only its own"),
        (["-o", "out/", "--maps", "some"], "maps are of none, anomalous, all, got 'some'"),
    ],
)
def test_commands_that_cannot_be_meant(
    run: Run, exported: Path, line: Path, words: list[str], told: str
) -> None:
    done = run("score", exported, line, *words)
    assert done.status == 1 and told in done.err
