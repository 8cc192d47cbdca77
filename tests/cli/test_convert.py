import json

import torch


def test_convert_says_what_it_made(cli, tmp_path):
    (tmp_path / "given").mkdir()
    torch.save({"state_dict": {"fc.weight": torch.ones(2, 3)}}, tmp_path / "given" / "mine.pth")
    status, out, err = cli("convert", "given/mine.pth")
    assert (status, err) == (0, "")
    assert out.splitlines()[:4] == [
        "mine.safetensors: 1 tensors, 6 parameters",
        "looks like: no network that `vitreous models` lists",
        "preprocessing: unknown; training from it will ask",
        "the weights stood in the checkpoint's state_dict",
    ]
    assert (tmp_path / "mine.safetensors").is_file()  # here, not beside the user's file
    assert [file.name for file in (tmp_path / "given").iterdir()] == ["mine.pth"]
    status, _, err = cli("convert", "given/mine.pth")
    assert (status, "exists already" in err) == (2, True)
    status, out, _ = cli("convert", "given/mine.pth", "--out", "two.safetensors", "--json")
    assert (status, json.loads(out)["num_parameters"]) == (0, 6)
