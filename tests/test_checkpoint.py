import pytest
import torch

from vitreous import storage
from vitreous.checkpoint import load_newest_checkpoint, save_checkpoint
from vitreous.errors import MachineError


def save(folder, step, value=None):
    save_checkpoint(folder, step, {"w": torch.full((3,), float(step if value is None else value))}, {"epoch": step})


def test_the_newest_comes_back_and_two_are_kept(tmp_path):
    for step in (1, 2, 10):
        save(tmp_path, step)
    checkpoint, problems = load_newest_checkpoint(tmp_path)
    assert checkpoint.step == 10
    assert checkpoint.progress == {"epoch": 10}
    assert torch.equal(checkpoint.tensors["w"], torch.full((3,), 10.0))
    assert problems == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000000002", "step-000000010"]


@pytest.mark.parametrize("name", ["state.safetensors", "progress.json", "checkpoint.json"])
@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_a_damaged_one_is_named_and_the_one_before_it_taken(tmp_path, name, damage):
    save(tmp_path, 1)
    save(tmp_path, 2)
    file = tmp_path / "step-000000002" / name
    data = bytearray(file.read_bytes())
    match damage:
        case "flip":
            data[len(data) // 2] ^= 1
            file.write_bytes(data)
        case "cut":
            file.write_bytes(data[: len(data) // 2])
        case "remove":
            file.unlink()
    checkpoint, problems = load_newest_checkpoint(tmp_path)
    assert checkpoint.step == 1
    assert len(problems) == 1
    assert "step-000000002" in problems[0]


def test_numbers_that_are_not_finite_are_never_committed(tmp_path):
    save(tmp_path, 1)
    with pytest.raises(MachineError, match="no longer finite"):
        save(tmp_path, 2, value=float("nan"))
    assert load_newest_checkpoint(tmp_path)[0].step == 1


def test_a_crash_before_the_rename_leaves_the_old_one(tmp_path, monkeypatch):
    save(tmp_path, 1)

    def crash(*_):
        raise RuntimeError("power cut")

    monkeypatch.setattr(storage, "replace_directory", crash)
    with pytest.raises(RuntimeError, match="power cut"):
        save(tmp_path, 2)
    checkpoint, problems = load_newest_checkpoint(tmp_path)
    assert checkpoint.step == 1
    assert problems == []


def test_no_folder_is_no_checkpoint(tmp_path):
    assert load_newest_checkpoint(tmp_path / "absent") == (None, [])
