"""Several devices, a process each, that train one model: each takes a part of every batch, gradients are added up."""

import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import distributed
from torch.multiprocessing import get_context

from dtcwsi.errors import DtcwsiError, OptionError
from dtcwsi.options import check_whole_number
from dtcwsi.slides.workers import end_with_parent

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

__all__ = ["ALONE", "Place", "check_devices", "from_first", "helped", "without_joining"]

_SECONDS_TO_END = 5
_SECONDS_BETWEEN_LOOKS = 0.05
_SET_BY_LIGHTNING = ("MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class Place:
    """One process's place among those that train a model: its ``rank`` of ``world``, which meet at ``port``."""

    rank: int = 0
    world: int = 1
    port: int = 0

    def trainer_options(self, device: torch.device) -> dict[str, Any]:
        """Tell Lightning's Trainer of the processes that are there: it is not to start any."""
        from lightning.pytorch.plugins.environments import LightningEnvironment
        from lightning.pytorch.strategies import DDPStrategy

        if self.world == 1:  # whatever Slurm says of the job: else it would start, check and requeue for us
            return {"devices": 1 if device.index is None else [device.index], "plugins": [LightningEnvironment()]}

        backend = "nccl" if device.type == "cuda" else "gloo"
        strategy = DDPStrategy(process_group_backend=backend, broadcast_buffers=False)
        plugins = [_environment(self)]
        return {"devices": self.world, "strategy": strategy, "plugins": plugins, "use_distributed_sampler": False}


ALONE = Place()


def check_devices(devices: int, device: torch.device, *, whole_batches: bool) -> None:
    """Check that a model can be trained on so many devices.  Raises: OptionError if it cannot."""
    if check_whole_number("devices", devices) == 1:
        return
    if whole_batches:
        raise OptionError(f"got devices={devices}; use one, as this model's slides depend on each other in training")
    if device.index is not None:
        raise OptionError(f"got devices={devices} and the device {str(device)!r}; expected one of them")
    there = {"cpu": devices, "cuda": torch.cuda.device_count()}.get(device.type, 1)
    if devices > there:
        raise OptionError(f"got devices={devices} and there are {there} of {device.type}; use as many or fewer")


@contextmanager
def helped(devices: int, device: torch.device, part: Callable[..., object], *given: Any) -> Iterator[Place]:
    """Start ``part(*given, place)`` in further processes, one a device beyond the first; they end with the block.

    Yields: the place of this process, the first.
    Raises: DtcwsiError if one of them failed; what else the block raises.
    """
    if devices == 1:
        yield ALONE
        return
    port, context = _free_port(), get_context("spawn")
    ready, told = context.SimpleQueue(), context.SimpleQueue()
    helpers = [
        context.Process(target=_help, args=(ready, told, part, given, Place(rank, devices, port), device), daemon=True)
        for rank in range(1, devices)
    ]
    try:
        for helper in helpers:
            helper.start()
        _await(ready, helpers)
        with _threads_shared(device, devices), _environment_kept():
            yield Place(0, devices, port)
        for helper in helpers:
            helper.join(_SECONDS_TO_END)
    except RuntimeError as error:  # perhaps a connection that broke off, which has a reason on the other side
        reason = _why_ended(helpers) if told.empty() else told.get()
        if reason is None:
            raise
        raise DtcwsiError(reason) from error
    finally:
        _part_ways()
        for helper in helpers:
            helper.terminate()
            helper.join(_SECONDS_TO_END)
            helper.kill()
            helper.join()


def _await(ready: Any, helpers: Sequence[BaseProcess]) -> None:
    """Wait until all helpers have begun: what ends before they meet would be waited for.

    Raises: DtcwsiError if one has ended.
    """
    begun = set[int]()
    while len(begun) < len(helpers):
        ended = {rank for rank, helper in enumerate(helpers, start=1) if not helper.is_alive()}
        while not ready.empty():
            begun.add(ready.get())
        if ended - begun:
            reason = _why_ended(helpers) or "a training process ended before it began"
            raise DtcwsiError(f"{reason}; a script that trains on several devices needs its __main__ guarded")
        time.sleep(_SECONDS_BETWEEN_LOOKS)


def _why_ended(helpers: Sequence[BaseProcess]) -> str | None:
    """Name a process that something killed; None if all are there."""
    for rank, helper in enumerate(helpers, start=1):
        helper.join(1)
        if helper.exitcode:
            return (
                f"training process {rank} of {len(helpers) + 1} ended with exit code {helper.exitcode}, perhaps for "
                "want of memory; use fewer devices or lower max_tokens"
            )
    return None


def without_joining(trainer: "Trainer") -> AbstractContextManager[Any]:
    """Keep gradients to this process: they are added up once a batch, by `dtcwsi.nn.everywhere`."""
    if trainer.world_size == 1:
        return nullcontext()
    return cast("AbstractContextManager[Any]", trainer.strategy.block_backward_sync())


def from_first(trainer: "Trainer", value: bool) -> bool:  # noqa: FBT001  # what is told is the value
    """Give all processes the first one's value."""
    return bool(trainer.strategy.broadcast(value))


def _help(
    ready: Any, told: Any, part: Callable[..., object], given: tuple[Any, ...], place: Place, device: torch.device
) -> None:
    """Do a part in a process of its own, on the device of its rank; what goes wrong is told to the first."""
    end_with_parent()
    ready.put(place.rank)
    if device.type == "cuda":
        torch.cuda.set_device(place.rank)
    torch.set_num_threads(max(1, torch.get_num_threads() // place.world))
    try:
        part(*given, place)
    except KeyboardInterrupt:
        return
    except Exception as error:  # noqa: BLE001  # the first process raises it
        told.put(f"training process {place.rank} of {place.world} failed: {type(error).__name__}: {error}")
    finally:
        _part_ways()


def _part_ways() -> None:
    if distributed.is_initialized():
        distributed.destroy_process_group()


def _environment(place: Place) -> Any:
    from lightning.fabric.plugins.environments import ClusterEnvironment

    class Here(ClusterEnvironment):  # type: ignore[misc]  # lightning has no stubs here
        """Processes of this machine that were started already."""

        creates_processes_externally = True
        main_address = "127.0.0.1"
        main_port = place.port

        @staticmethod
        def detect() -> bool:
            return False

        def world_size(self) -> int:
            return place.world

        def set_world_size(self, size: int) -> None:
            """Keep the size: it is known."""

        def global_rank(self) -> int:
            return place.rank

        def set_global_rank(self, rank: int) -> None:
            """Keep the rank: it is known."""

        def local_rank(self) -> int:
            return place.rank

        def node_rank(self) -> int:
            return 0

    return Here()


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def _threads_shared(device: torch.device, devices: int) -> Iterator[None]:
    """Leave the other processes their share of the processor's threads."""
    before = torch.get_num_threads()
    if device.type == "cpu":
        torch.set_num_threads(max(1, before // devices))
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _environment_kept() -> Iterator[None]:
    before = {name: os.environ.get(name) for name in _SET_BY_LIGHTNING}
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
