import pytest
import torch

from vitreous import storage
from vitreous.checkpoint import load_newest_checkpoint, save_checkpoint
from vitreous.errors import MachineError

RUN = "a run's identity"


def save(folder, step, value=None, identity=RUN):
    tensors = {"w": torch.full((3,), float(step if value is None else value))}
    save_checkpoint(folder, step, tensors, {"epoch": step}, identity)


def test_the_newest_comes_back_and_two_are_kept(tmp_path):
    for step in (1, 2, 10):
        save(tmp_path, step)
    checkpoint, problems = load_newest_checkpoint(tmp_path, RUN)
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
    checkpoint, problems = load_newest_checkpoint(tmp_path, RUN)
    assert checkpoint.step == 1
    assert len(problems) == 1
    assert "step-000000002" in problems[0]


def test_one_of_another_run_is_named_and_the_one_before_it_taken(tmp_path):
    save(tmp_path / "ours", 1)
    save(tmp_path / "theirs", 2, identity="another's")
    (tmp_path / "theirs" / "step-000000002").rename(tmp_path / "ours" / "step-000000002")
    checkpoint, problems = load_newest_checkpoint(tmp_path / "ours", RUN)
    assert checkpoint.step == 1
    assert len(problems) == 1
    assert "step-000000002 belongs to another run" in problems[0]
    save(tmp_path / "ours", 2)
    assert load_newest_checkpoint(tmp_path / "ours", RUN)[1] == []


def test_what_was_fallen_back_from_never_pushes_out_a_good_one(tmp_path):
    """Two damaged ones of later steps would else be the two newest, and what is saved next would go at once."""
    for step in (8, 9):
        save(tmp_path, step, identity="another's")
    for step in (3, 4):
        save(tmp_path, step)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000000003", "step-000000004"]


def test_the_oldest_tell_no_run_and_are_taken(tmp_path):
    save(tmp_path, 1, identity=None)
    assert load_newest_checkpoint(tmp_path, RUN)[0].step == 1
    save(tmp_path, 2)
    assert load_newest_checkpoint(tmp_path, None)[0].step == 2, "nor do the oldest runs know who they are"


def test_a_checkpoint_cannot_be_made_to_tell_no_run(tmp_path):
    """A flipped bit in the word that names it must not make it one of the oldest."""
    save(tmp_path, 1)
    file = tmp_path / "step-000000001" / "checkpoint.json"
    file.write_text(file.read_text().replace('"run"', '"rum"'))
    checkpoint, problems = load_newest_checkpoint(tmp_path, RUN)
    assert checkpoint is None
    assert "other things than were written" in problems[0]


def test_numbers_that_are_not_finite_are_never_committed(tmp_path):
    save(tmp_path, 1)
    with pytest.raises(MachineError, match="no longer finite"):
        save(tmp_path, 2, value=float("nan"))
    assert load_newest_checkpoint(tmp_path, RUN)[0].step == 1


def test_a_crash_before_the_rename_leaves_the_old_one(tmp_path, monkeypatch):
    save(tmp_path, 1)

    def crash(*_):
        raise RuntimeError("power cut")

    monkeypatch.setattr(storage, "replace_directory", crash)
    with pytest.raises(RuntimeError, match="power cut"):
        save(tmp_path, 2)
    checkpoint, problems = load_newest_checkpoint(tmp_path, RUN)
    assert checkpoint.step == 1
    assert problems == []


def test_no_folder_is_no_checkpoint(tmp_path):
    assert load_newest_checkpoint(tmp_path / "absent", RUN) == (None, [])
