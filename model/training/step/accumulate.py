"""A batch that is computed in equal parts, one after the other, with the gradient of the whole batch.

The losses of a batch are no sums over its clips: means divide by the number of clips that count, and the CCC
of an attribute couples all clips. Therefore all parts are first computed for their outputs alone. The loss of
the whole batch and its gradient with respect to the outputs follow. Then each part is computed again, with
the same random numbers, and its share of that gradient goes back through the network. Activations are held
for one part at a time. The part that was computed last the first time is not computed again.

Batch normalisation couples all clips inside the network. Encoders with it are therefore computed once, for
the whole batch, and their activations are held until the end; the parts read their outputs.

Source: Gao et al. 2021, Scaling deep contrastive learning batch size under memory limited setup
("gradient cache"), arXiv 2101.06983.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import fields, replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from deiii.data.config.schema import Config
from deiii.data.config.strict_yaml import ConfigError
from deiii.data.loader.batch import Batch
from deiii.data.tools.counts import counted
from deiii.model.network.gpu.side_stream import recording
from deiii.model.network.heads import Outputs
from deiii.model.network.inputs.network import Network

Kind = TypeVar("Kind")
ENCODERS = ("frame_encoder", "flow_encoder", "audio_encoder")  # attributes of a network


class DividedBatch:
    """The forward and the backward pass of one batch in equal parts.

    Call `outputs`, compute a loss of them, call its ``backward``, then `backward`. The gradients of the
    parameters are then those of the whole batch, up to rounding; those that they had before are added.

    Args:
        model: the network, in training.
        batch: the batch; the parts are views of its rows.
        count: number of parts, 2 or more.
        compute: returns the network's outputs for a part. It must draw its random numbers from PyTorch, and
            no clip may have an effect on another one after the encoders; `check_clips_apart` refuses layers
            that are known for this.
        learner: the network that ``compute`` calls; a `DistributedDataParallel` exchanges gradients in the
            last backward pass alone.
        context: the context of the encoders that are computed for the whole batch, such as autocast.

    Raises:
        ValueError: the parts would not be equal.

    >>> divided = DividedBatch(network, batch, 4, network, network)   # doctest: +SKIP
    >>> total_loss(divided.outputs(), batch)[0].backward()            # doctest: +SKIP
    >>> divided.backward()                                            # doctest: +SKIP
    """

    def __init__(
        self,
        model: Network,
        batch: Batch,
        count: int,
        compute: Callable[[Batch], Outputs],
        learner: Any,
        context: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ):
        if len(batch) % count:
            clips = counted(len(batch), "clip")
            raise ValueError(f"a batch of {clips} cannot be divided into equal parts, {count} in number")
        self.model = model
        self.batch = batch
        self.rows = len(batch) // count
        # By name, the tensor of each part.
        split = {name: x.split(self.rows) for name, x in batch.tensors().items()}
        self.parts = [Batch.from_tensors({name: x[i] for name, x in split.items()}) for i in range(count)]
        self.compute = compute
        self.context = context
        self.device = batch.label.device
        self.no_exchange: Callable[[], AbstractContextManager[Any]] = nullcontext
        if isinstance(learner, DistributedDataParallel):
            self.no_exchange = learner.no_sync
        self.random: list[list[Tensor]] = []  # states of the generators before each part
        # Outputs of the encoders of the whole batch, with their activations; and the same for each part, as
        # leaves that collect its gradients.
        self.encoded: dict[str, Tensor] = {}
        self.read: list[dict[str, Tensor]] = []
        self.whole: list[Tensor] = []  # the tensors that `outputs` returned
        self.last: Outputs | None = None  # outputs of the last part, with its activations

    def outputs(self) -> Outputs:
        """Return the outputs of all clips, whose gradients `backward` takes.

        Raises:
            RuntimeError: a CUDA graph is being recorded, and PyTorch cannot repeat random numbers in it.
        """
        check_repeatable(self.device)
        with self.context():
            for name in encoders_of_whole_batch(self.model):
                self.encoded[name] = self.model.encoder_output(name, self.batch)
        self.read = [
            {name: x[rows].detach().requires_grad_(x.requires_grad) for name, x in self.encoded.items()}
            for rows in map(self._of_part, range(len(self.parts)))
        ]
        found: list[list[Tensor]] = []
        for i in range(len(self.parts) - 1):
            found.append([x.detach() for x in tensors_of_outputs(self._first(i))])
        last = self.last = self._first(len(self.parts) - 1)
        own = list(tensors_of_outputs(last))
        self.whole = [torch.cat(x) for x in zip(*found, [x.detach() for x in own], strict=True)]
        for tensor, of_last in zip(self.whole, own, strict=True):
            tensor.requires_grad_(of_last.requires_grad)
        return with_tensors(last, iter(self.whole))

    def backward(self) -> None:
        """Add the gradients of the parameters, from the gradients of the tensors that `outputs` returned."""
        final = len(self.parts) - 2  # the last one comes first
        self._part_backward(final + 1, self.last)
        self.last = None
        for i in range(final + 1):
            set_random_states(self.random[i], self.device)
            with nullcontext() if i == final else self.no_exchange():
                self._part_backward(i, self._outputs(i))
        self._encoders_backward()

    def _first(self, number: int) -> Outputs:
        """Compute a part for the first time."""
        self.random.append(random_states(self.device))
        with self.no_exchange():
            return self._outputs(number)

    def _outputs(self, number: int) -> Outputs:
        """Compute a part, which reads the outputs of the encoders of the whole batch."""
        try:
            self.model.encoded = self.read[number]
            return self.compute(self.parts[number])
        finally:
            self.model.encoded = None

    def _of_part(self, number: int) -> slice:
        return slice(number * self.rows, (number + 1) * self.rows)

    def _part_backward(self, number: int, outputs: Outputs | None) -> None:
        """Send the gradient of one part's outputs back through the network."""
        rows = self._of_part(number)
        pairs = [
            (own, whole.grad[rows])
            for own, whole in zip(tensors_of_outputs(outputs), self.whole, strict=True)
            if whole.grad is not None
        ]
        torch.autograd.backward([own for own, _ in pairs], [gradient for _, gradient in pairs])

    def _encoders_backward(self) -> None:
        """Send what the parts have collected back through the encoders of the whole batch."""
        gradients = {name: [part[name].grad for part in self.read] for name in self.encoded}
        # Every part has the same layers, so either all or none of them have a gradient.
        used = {name: [x for x in each if x is not None] for name, each in gradients.items()}
        outputs = [self.encoded[name] for name, each in used.items() if each]
        if outputs:
            torch.autograd.backward(outputs, [torch.cat(each) for each in used.values() if each])
        self.encoded = {}


def encoders_of_whole_batch(model: nn.Module) -> list[str]:
    """Return the names of the network's own encoders that use statistics of the batch.

    Encoders and networks of packages are left out.

    >>> encoders_of_whole_batch(network)   # doctest: +SKIP
    ['frame_encoder', 'flow_encoder']
    """
    if not _is_own(model):
        return []
    encoders = {name: getattr(model, name) for name in ENCODERS}
    return [name for name, x in encoders.items() if x is not None and _is_own(x) and _statistics(x)]


def check_clips_apart(model: nn.Module, config: Config) -> None:
    """Refuse ``train.accumulate`` for a network in which clips of a batch have an effect on each other.

    Unless ``train.accumulate`` is 1, the network is in training mode afterwards.

    Raises:
        ConfigError: names the layers and what to do.
    """
    count = config.train.accumulate
    if count == 1:
        return
    model.train()
    apart = tuple(f"{name}." for name in encoders_of_whole_batch(model))
    found = [name for name in _statistics(model) if not name.startswith(apart)]
    named = f"the batch normalisation {', '.join(found[:3])}{' ...' if len(found) > 3 else ''}"
    if config.model.batch_axis:
        found = [named := "model.batch_axis=true"]
    if found:
        raise ConfigError(
            f"train.accumulate={count} needs a network in which no clip of a batch has an effect on another "
            f"one, but this network has {named}; use a smaller loader.batch with train.accumulate=1, or "
            "another network or encoder"
        )


def _statistics(module: nn.Module) -> list[str]:
    """Return the names of the layers that use statistics of the batch."""
    return [name for name, x in module.named_modules() if isinstance(x, _BatchNorm) and x.training]


def _is_own(module: nn.Module) -> bool:
    """Return whether a module is deiii's, not of a package."""
    return type(module).__module__.startswith("deiii.")


def tensors_of_outputs(outputs: Any) -> Iterator[Tensor]:
    """Yield the tensors of `Outputs`, also those in its data classes, in the order of the fields."""
    if isinstance(outputs, Tensor):
        yield outputs
    elif outputs is not None:
        for field in fields(outputs):
            yield from tensors_of_outputs(getattr(outputs, field.name))


def with_tensors(outputs: Kind, tensors: Iterator[Tensor]) -> Kind:
    """Return outputs with other tensors, in the order of `tensors_of_outputs`."""
    if isinstance(outputs, Tensor):
        return next(tensors)  # type: ignore[return-value]
    if outputs is None:
        return outputs
    return replace(  # type: ignore[type-var]
        outputs,
        **{x.name: with_tensors(getattr(outputs, x.name), tensors) for x in fields(outputs)},  # type: ignore[arg-type]
    )


def random_states(device: torch.device) -> list[Tensor]:
    """Return the states of PyTorch's generators on the CPU and on the device, uint8 in CPU memory."""
    of_gpu = [torch.cuda.get_rng_state(device)] if device.type == "cuda" else []
    return [torch.get_rng_state(), *of_gpu]


def set_random_states(states: Sequence[Tensor], device: torch.device) -> None:
    """Set the states that `random_states` returned."""
    torch.set_rng_state(states[0])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states[1], device)


def check_repeatable(device: torch.device) -> None:
    """Raise RuntimeError if a graph is being recorded in which random numbers cannot be repeated.

    PyTorch has one state for a recording and one for everything else. In versions whose functions read the
    latter alone, a part would be computed with other dropout the second time.
    """
    if not recording(device):
        return
    before = random_states(device)
    torch.rand(1, device=device)
    if torch.equal(random_states(device)[1], before[1]):
        raise RuntimeError("with train.accumulate, this PyTorch cannot repeat random numbers in a graph")
    set_random_states(before, device)
