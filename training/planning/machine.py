"""What this machine is: its device, its processor, and the precision of its matrix products."""

import os
import platform
from pathlib import Path

import torch

from model.cells.spec import Cell
from model.config import NetworkConfig
from model.errors import ParameterError
from model.network import Network
from training.planning.train_options import Precision


def faster_precision(device: torch.device) -> Precision:
    """bf16 where the processor multiplies it in hardware, which doubles the speed of a step; else fp32."""
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    able = torch.cpu.get_capabilities()
    return "bf16" if able.get("avx512_bf16") or able.get("amx_bf16") else "fp32"


def check_precision(cell: Cell, precision: Precision, device: torch.device) -> None:
    """Raise ParameterError where this device has no kernel to train the cell in that precision.

    oneDNN has no bf16 LSTM for x86 processors without AVX-512; it says so only when a step is tried, so one is.
    """
    if precision == "fp32":
        return
    probe = NetworkConfig(cell=cell, layers=1, hidden=16, embedding=16, vocabulary=280)
    with torch.random.fork_rng(devices=[]):
        network = Network(probe).to(device)
        try:
            with torch.autocast(device.type, dtype=torch.bfloat16):
                network(torch.zeros((1, 1), dtype=torch.int64, device=device))
        except RuntimeError as error:
            message = f"This machine cannot train a network of cell {cell!r} in bf16; choose --precision fp32 or auto."
            raise ParameterError("precision", message) from error


def choose_device(name: str, local: int = 0, here: int = 1) -> torch.device:
    """The device of that name; "auto" is the GPU where there is one. Raises ParameterError where there is none.

    local: the number of this process among those of the machine, which are so many as `here`; each has a GPU.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and here > 1:
        if here > torch.cuda.device_count():
            raise ParameterError(
                "device",
                f"{here} processes of this machine have {torch.cuda.device_count()} GPUs, but need one each; start as "
                "many processes as GPUs, or choose --device cpu.",
            )
        name = f"cuda:{local}"
    gpus = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    devices = ["cpu", *(["cuda", *gpus] if gpus else [])]
    if name not in devices:
        raise ParameterError(
            "device", f"--device is {name!r}; choose auto, or one this machine has: {', '.join(devices)}."
        )
    return torch.device(name)


def machine(device: torch.device, processes: int = 1) -> str:
    """The device a network is trained on, this machine's cores, PyTorch's version and how many processes train."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
    together = f", {processes} processes" if processes > 1 else ""
    return f"{name}, {os.cpu_count()} cores, PyTorch {torch.__version__.split('+')[0]}{together}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
