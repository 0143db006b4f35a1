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
