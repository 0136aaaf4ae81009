"""PyTorch tensors: rounded as the NumPy and CuPy arrays that have the same memory."""

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from srlib import checks
from srlib.formats import Format


def round_tensor(round_array: Callable[..., Any], x: Any, fmt: Any, scheme: Any, rng: Any, v: Any, out: Any) -> Any:
    """Return what `round_array`, which is `srlib.round_to`, makes of a tensor; `v` and `out` are tensors too, or None.

    Raises
    ------
    TypeError, ValueError
        As `round_to` does; or if a tensor records gradients, is not strided, has no memory of its own, is on another
        device than `x`, which must be a CPU or a CUDA device, or elements of `out` share their memory.
    RuntimeError
        If they are on a CUDA device, and CuPy is missing.
    """
    import torch

    given = {name: tensor for name, tensor in (("x", x), ("v", v), ("out", out)) if tensor is not None}
    for name, tensor in given.items():
        _check(torch, name, tensor, x)
    if out is not None:
        _check_output(out, x)
    wide = x.dtype == torch.bfloat16  # NumPy has no such type
    if wide:
        Format.parse(fmt).check_carrier("bfloat16")
    with ExitStack() as stack:
        view = _views(torch, x.device, stack)
        target = None if out is None or wide else view(out)
        rounded = round_array(view(x), fmt, scheme, rng, v=None if v is None else view(v), out=target)
    if out is None:
        return (torch.from_dlpack(rounded) if x.is_cuda else torch.as_tensor(rounded)).to(x.dtype)
    if wide:
        out.detach().copy_(torch.from_dlpack(rounded) if x.is_cuda else torch.as_tensor(rounded))
    if not out.is_inference():
        torch.autograd.graph.increment_version(out)  # autograd does not see what another view has written
    return out


def _check(torch: Any, name: str, tensor: Any, x: Any) -> None:
    if not isinstance(tensor, torch.Tensor):
        raise TypeError(f"{name} is a {type(tensor).__name__}; must be a tensor, as x is")
    if tensor.layout != torch.strided:
        raise TypeError(f"{name} is of layout {tensor.layout}; must be strided")
    if tensor.dtype not in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        raise TypeError(f"{name} is of {tensor.dtype}; must be of float16, bfloat16, float32 or float64")
    if tensor.device != x.device or tensor.device.type not in ("cpu", "cuda"):
        where = f"{x.device}, as x is" if tensor is not x else "a CPU or a CUDA device"
        raise ValueError(f"{name} is on {tensor.device}; must be on {where}")
    if tensor.requires_grad and torch.is_grad_enabled():
        raise TypeError(f"{name} records gradients; must not: use {name}.detach(), or round under torch.no_grad()")
    if not _has_memory(torch, tensor):
        what = f"a {type(tensor).__name__} without memory of its own, such as within torch.func.vmap"
        raise TypeError(f"{name} is {what}; must be a plain tensor")


def _has_memory(torch: Any, tensor: Any) -> bool:
    if type(tensor).__torch_dispatch__ is not torch.Tensor.__torch_dispatch__:  # distributed, or without numbers
        return False
    try:
        tensor.data_ptr()
    except RuntimeError:
        return False
    return True


def _check_output(out: Any, x: Any) -> None:
    if out.dtype != x.dtype:
        raise TypeError(f"out is of {out.dtype}; must be of {x.dtype}, as x is")
    checks.same_shape("out", out, x.shape)
    if out.is_neg() or any(step == 0 and size > 1 for step, size in zip(out.stride(), out.shape, strict=True)):
        raise ValueError("out is expanded or a negative view; must have memory of its own for each element")


def _views(torch: Any, device: Any, stack: ExitStack) -> Callable[[Any], Any]:
    """Return a function that makes a tensor an array with its memory, or with float32 numbers in place of bfloat16."""

    def plain(tensor: Any) -> Any:
        tensor = tensor.detach().resolve_neg()
        return tensor.float() if tensor.dtype == torch.bfloat16 else tensor

    if device.type == "cpu":
        return lambda tensor: plain(tensor).numpy()
    try:
        import cupy
    except ImportError as error:
        raise RuntimeError(f"x is on {device}; must be on the CPU where CuPy cannot be imported ({error})") from None
    stack.enter_context(cupy.cuda.Device(device.index))
    stack.enter_context(cupy.cuda.ExternalStream(torch.cuda.current_stream(device).cuda_stream))
    return lambda tensor: cupy.from_dlpack(plain(tensor))
