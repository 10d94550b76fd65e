"""Runs in the middle and at their end, and what can happen to one of their files."""

import json
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from commandline import CONFIG, fit_into
from safetensors.torch import load_file, save_file

from pdd_lightning.cli.main import main
from pdd_lightning.training.learner import Learner

SUFFIXES = (".safetensors", ".json", ".ckpt")


def artifacts(run: Path) -> list[Path]:
    """The files of a run that a command may read."""
    return sorted(path for path in run.rglob("*") if path.suffix in SUFFIXES)


class Killed(BaseException):
    """Stands for the end of the process."""


@contextmanager
def killed_at_the_second_member() -> Iterator[None]:
    """The process ends when it has stored the first member of a transition."""
    accuracy, calls = Learner.accuracy, [0]

    def dies(self: Learner, data: object, batch_size: int = 1000) -> float:
        calls[0] += 1
        if calls[0] == 2:
            raise Killed
        return accuracy(self, data, batch_size)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Learner, "accuracy", dies)
        with pytest.raises(Killed):
            yield


def make_states(folder: Path) -> dict[str, Path]:
    """Runs that are finished, in the steps of stage 2, and in the transition of stage 2."""
    finished, steps, transition = (folder / name / "run" for name in ("finished", "steps", "transition"))
    fit_into(finished)
    for run in (steps, transition):
        shutil.copytree(finished, run)
    fit_into(finished)
    main(["evaluate", "--config", str(CONFIG), "--run_dir", str(finished)])
    fit_into(steps, "--trainer.max_steps", "6", "--checkpoint_every", "3")
    with killed_at_the_second_member():
        fit_into(transition)
    return {"finished": finished, "steps": steps, "transition": transition}


Mutation = Callable[[Path, Path, random.Random], None]


def truncate(path: Path, run: Path, draw: random.Random) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: draw.randrange(len(data))])


def empty(path: Path, run: Path, draw: random.Random) -> None:
    path.write_bytes(b"")


def flip(path: Path, run: Path, draw: random.Random) -> None:
    data = bytearray(path.read_bytes())
    data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    path.write_bytes(data)


def blank(path: Path, run: Path, draw: random.Random) -> None:
    """A block of zeros, as a disk leaves after a crash."""
    data = bytearray(path.read_bytes())
    start = draw.randrange(len(data))
    data[start : start + 512] = bytes(len(data[start : start + 512]))
    path.write_bytes(data)


def lengthen(path: Path, run: Path, draw: random.Random) -> None:
    path.write_bytes(path.read_bytes() + draw.randbytes(64))


def remove(path: Path, run: Path, draw: random.Random) -> None:
    path.unlink()


def swap(path: Path, run: Path, draw: random.Random) -> None:
    """Another file of the run in its place."""
    others = [other for other in artifacts(run) if other.suffix == path.suffix and other != path]
    if others:
        shutil.copyfile(draw.choice(others), path)


def renew(path: Path, run: Path, draw: random.Random) -> None:
    """The format of a later version."""
    _rewrite(path, lambda tensors, told: told.update(format="2"), lambda value: value.update(format=2))


def poison(path: Path, run: Path, draw: random.Random) -> None:
    """A value that is not a number, or text in place of a number."""

    def tensors_of(tensors: dict[str, torch.Tensor], told: dict[str, str]) -> None:
        name = next(name for name, tensor in tensors.items() if tensor.is_floating_point() and tensor.numel())
        tensors[name].view(-1)[draw.randrange(tensors[name].numel())] = float("nan")

    _rewrite(path, tensors_of, lambda value: value.update(dict.fromkeys(list(value)[:1], "NaN")))


def reshape(path: Path, run: Path, draw: random.Random) -> None:
    """A tensor with fewer rows, or an object without a key."""

    def tensors_of(tensors: dict[str, torch.Tensor], told: dict[str, str]) -> None:
        name = draw.choice([name for name, tensor in tensors.items() if tensor.ndim])
        tensors[name] = tensors[name][1:].contiguous()

    _rewrite(path, tensors_of, lambda value: value.pop(draw.choice(list(value))))


def _rewrite(
    path: Path,
    change_tensors: Callable[[dict[str, torch.Tensor], dict[str, str]], object],
    change_json: Callable[[dict[str, object]], object],
) -> None:
    """A well-formed file with other contents; a checkpoint is rewritten as torch does it."""
    if path.suffix == ".json":
        value = json.loads(path.read_bytes())
        change_json(value[0] if isinstance(value, list) else value)
        path.write_text(json.dumps(value))
    elif path.suffix == ".ckpt":
        checkpoint = torch.load(path, weights_only=True)
        change_tensors(checkpoint["state_dict"], {})
        torch.save(checkpoint, path)
    else:
        tensors, told = load_file(path), _metadata(path)
        change_tensors(tensors, told)
        save_file(tensors, path, told)


def _metadata(path: Path) -> dict[str, str]:
    data = path.read_bytes()
    told: dict[str, str] = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
    return told


MUTATIONS: dict[str, Mutation] = {
    each.__name__: each for each in (truncate, empty, flip, blank, lengthen, remove, swap, renew, poison, reshape)
}
