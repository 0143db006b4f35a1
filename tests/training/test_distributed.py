import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn

from onlygood.core.errors import ConfigError
from onlygood.training import distributed
from tests.training import two_ranks

TOLERANCE = 1e-8
"""Relative, of what two processes have trained in double precision beside one."""


def test_the_guide_says_what_is_tested():
    guide = Path(__file__).parents[2] / "docs" / "guides" / "several-gpus.md"
    told = re.search(
        r"compares weights and losses with those of one: (\S+) relative", words_of(guide)
    )
    assert told is not None and float(told[1]) == TOLERANCE


def words_of(page: Path) -> str:
    return " ".join(page.read_text("utf-8").split())


def test_alone_nothing_is_shared():
    distributed.start()
    assert (distributed.rank(), distributed.world()) == (0, 1)
    tensor = torch.tensor([1.0, 2.0])
    distributed.broadcast([tensor])
    distributed.average([tensor])
    assert tensor.tolist() == [1.0, 2.0]
    assert distributed.whole(tensor) is tensor
    assert distributed.agreed(True) is True
    assert distributed.agreed(False) is False
    distributed.check_batch(7, nn.BatchNorm1d(3))


def test_of_a_single_picture_nothing_is_normalised():
    distributed.start()
    distributed.check_batch(1, nn.BatchNorm2d(3))
    with pytest.raises(ConfigError, match=r"batch_size=1 leaves .* take 2 or more"):
        distributed.check_batch(1, nn.Sequential(nn.BatchNorm1d(3)))


def process(folder: Path, **environment: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-W", "error", two_ranks.__file__, str(folder)],
        env=os.environ
        | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        # Neither the network nor GPUs of this machine.
        | {"GLOO_SOCKET_IFNAME": "lo", "CUDA_VISIBLE_DEVICES": ""}
        | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def saved(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    with safe_open(path, "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata()


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path: Path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    together = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    processes = [process(tmp_path, RANK=str(rank), **together) for rank in range(2)]
    processes.append(process(tmp_path))
    try:
        outputs = [p.communicate(timeout=600)[0] for p in processes]
    finally:
        for p in processes:
            p.kill()
            p.wait()
    assert [p.returncode for p in processes] == [0, 0, 0], "\n".join(outputs)
    (first, words), (second, also) = (saved(tmp_path / f"{rank}-of-2") for rank in range(2))
    assert words["refused"] == "batch_size=3 cannot be shared by 2 processes; take a multiple of 2"
    # What goes wrong in one process stops both.
    assert "loss of update 'one' is nan at step 2" in words["diverged"]
    assert " after step 2; " in words["interrupted"] and " is written: " in words["interrupted"]
    assert words == also

    # What went on from the checkpoint of process 0 ends as if nothing had been, in both.
    unbroken = [name for name in first if name.startswith("unbroken.")]
    assert any(name.endswith("running_var") for name in unbroken)
    for name in unbroken:
        again = name.replace("unbroken.", "resumed.")
        for tensor in (first[again], second[name], second[again]):
            assert torch.equal(first[name], tensor), name

    # Each normalised its own part of a batch, and yet there is one network.
    measured = [name for name in first if name.startswith("measured.")]
    assert any(name.endswith("running_var") for name in measured) and "measured.centre" in measured
    for name in measured:
        assert torch.equal(first[name], second[name]), name

    alone, of_one = saved(tmp_path / "0-of-1")
    # Whole batches of 4, of 18 pictures.
    for name, passes in (("Gaussian", 2), ("Reflect", 1)):
        seen = [int(tensors.pop(f"seen.{name}")) for tensors in (alone, first, second)]
        assert seen == [passes * n for n in (18, 8, 10)], name
    for name, tensor in alone.items():
        # Statistics are of a backbone, and keep some numbers in 16 bits.
        assert tensor.dtype == torch.float64 or name.startswith(("Gaussian.", "Reflect."))
        assert torch.equal(first[name], second[name]), name
        torch.testing.assert_close(first[name], tensor, rtol=TOLERANCE, atol=1e-10, msg=name)
    # Adam takes no notice of the scale of gradients; the curves have their sizes, and all losses.
    records = zip(json.loads(words["curves"]), json.loads(of_one["curves"]), strict=True)
    for mine, expected in records:
        assert set(mine) == set(expected)
        # Each process sees how far apart the pictures of its own part of the batch are.
        alike = {k: v for k, v in expected.items() if not k.endswith(("spread", "diversity"))}
        game = {"critic/gradient_norm", "generator/gradient_norm"}
        assert (
            game <= set(alike)
            or {"both/radius", "both/crowding"} <= set(alike)
            or {"balanced/weight_one", "balanced/weight_two"} <= set(alike)
        )
        assert {name: mine[name] for name in alike} == pytest.approx(alike, rel=TOLERANCE)
