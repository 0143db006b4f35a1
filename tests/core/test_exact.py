import pytest
import torch

from onlygood.core.exact import exactly


def test_what_is_measured_on_a_gpu_keeps_its_digits():
    cudnn = torch.backends.cudnn
    before = cudnn.allow_tf32
    with exactly(torch.device("cpu")):
        assert cudnn.allow_tf32 == before
    with pytest.raises(RuntimeError), exactly(torch.device("cuda")):
        assert not cudnn.allow_tf32
        raise RuntimeError
    assert cudnn.allow_tf32 == before


def test_threads_that_overlap_all_keep_their_digits():
    cudnn = torch.backends.cudnn
    before, device = cudnn.allow_tf32, torch.device("cuda")
    first, second = exactly(device), exactly(device)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert not cudnn.allow_tf32
    second.__exit__(None, None, None)
    assert cudnn.allow_tf32 == before
