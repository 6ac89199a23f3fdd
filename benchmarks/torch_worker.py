"""PyTorch and SpikingJelly 2.0 under the driver's commands; see worker.py and measure.py."""

import platform
import time
from importlib import metadata

import numpy as np
import torch
import torch_networks as networks
from spikingjelly.activation_based import functional
from worker import Peak, serve

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16}


def synchronise():
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def _timed(step, repeats):
    """Seconds of each call, waited for."""
    seconds = []
    for _ in range(repeats):
        synchronise()
        started = time.perf_counter()
        step()
        synchronise()
        seconds.append(time.perf_counter() - started)
    return seconds


class Side:
    """What both kinds share: a timed `step`, peak memory, versions."""

    def __init__(self, spec):
        self.spec = spec
        # Both sides round alike: no TF32 where float32 was asked for.
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        torch.backends.cudnn.benchmark = True

    def become(self, spec):
        """Take another case of the same kind; `prepare` comes next."""
        self.spec = spec
        return {"ok": True}

    def prepare(self):
        if DEVICE == "cuda":
            torch.cuda.reset_peak_memory_stats()
        self.memory = Peak()
        self.build()
        started = time.perf_counter()
        self.step()
        synchronise()
        seconds = time.perf_counter() - started
        self.memory.compiled_now()
        for _ in range(2):
            self.step()
        synchronise()
        name = torch.cuda.get_device_name() if DEVICE == "cuda" else f"{platform.machine()} CPU"
        versions = {"torch": torch.__version__, "spikingjelly": metadata.version("spikingjelly")}
        return {"compile_s": seconds, "versions": versions, "device": name}

    def run(self, steps):
        return {"seconds": _timed(self.step, steps)}

    def product(self, size, repeats):
        """Seconds of a float32 matrix product: the ceiling of what convolutions can reach."""
        a = torch.randn(size, size, device=DEVICE)
        a @ a
        return {"seconds": _timed(lambda: a @ a, repeats)}

    def move(self, values, repeats):
        """Seconds to read and write so many float32."""
        x, y = torch.zeros(values, device=DEVICE), torch.zeros(values, device=DEVICE)
        step = lambda: torch.add(x, 1, out=y)  # noqa: E731
        step()
        return {"seconds": _timed(step, repeats)}

    def peak(self):
        if DEVICE == "cuda":
            return {"peak_bytes": torch.cuda.max_memory_allocated()}
        return self.memory.read()


class Step(Side):
    """One whole train step of a network on a batch that stays on the device."""

    def build(self):
        spec = self.spec
        self.amp = spec["dtype"] == "bfloat16"
        wide = torch.float64 if spec["dtype"] == "float64" else torch.float32
        neuron = spec["neuron"]
        if neuron == "dalif" and spec["dtype"] == "float64":
            neuron = "dalif_eager"  # FlexSN traces its core in float32
        model = networks.build(spec["network"], neuron, spec["channels"], spec["classes"])
        self.model = model.to(DEVICE, wide)
        if spec.get("channels_last"):
            self.model = self.model.to(memory_format=torch.channels_last)
        self.forward = torch.compile(self.model) if spec.get("compile") else self.model
        draw = np.random.default_rng(0)
        shape = (spec["batch"], spec["size"], spec["size"], spec["channels"])
        events = spec["network"] == "vgg11"
        if events:
            shape = (shape[0], spec["timesteps"], *shape[1:])
        self.x = self.place(draw.normal(size=shape), wide)
        labels = draw.integers(0, spec["classes"], spec["batch"])
        self.labels = torch.as_tensor(labels, device=DEVICE)
        decayed = [p for n, p in self.model.named_parameters() if p.ndim > 1 or n == "head.bias"]
        rest = [p for p in self.model.parameters() if not any(p is q for q in decayed)]
        self.optimizer = torch.optim.SGD(
            [{"params": decayed, "weight_decay": 1e-4}, {"params": rest}], lr=0.1, momentum=0.9
        )

    def place(self, x, dtype):
        """[B, H, W, C] -> [B, C, H, W] or [B, T, H, W, C] -> [T, B, C, H, W], on the device."""
        x = torch.as_tensor(np.asarray(x), dtype=dtype, device=DEVICE)
        if x.ndim == 5:
            return x.permute(1, 0, 4, 2, 3).contiguous()
        x = x.permute(0, 3, 1, 2)
        return x if self.spec.get("channels_last") else x.contiguous()

    def loss(self, forward, x, labels):
        functional.reset_net(self.model)
        if x.ndim == 4:
            x = x.unsqueeze(0).expand(self.spec["timesteps"], *x.shape)
        with torch.autocast(DEVICE, torch.bfloat16, enabled=self.amp):
            logits = forward(x)
        wide = logits.double() if logits.dtype == torch.float64 else logits.float()
        return torch.nn.functional.cross_entropy(wide.mean(0), labels), logits

    def step(self):
        loss, _ = self.loss(self.forward, self.x, self.labels)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def take(self, inputs):
        """(what the other side's `weights` wrote, its batch placed); the model has its values."""
        given = np.load(inputs)
        weights = {k.removeprefix("params/"): given[k] for k in given if k.startswith("params/")}
        networks.load(self.model, weights)
        x = given["x"] if given["x"].shape[1] > 1 else given["x"][:, 0]
        return given, self.place(x, next(self.model.parameters()).dtype)

    def gate(self, inputs, out):
        self.build()
        given, x = self.take(inputs)
        labels = torch.as_tensor(given["labels"], device=DEVICE)
        loss, logits = self.loss(self.model, x, labels)
        loss.backward()
        grads = {f"params/{k}": v for k, v in networks.gradients(self.model).items()}
        logits = logits.detach().double().transpose(0, 1).cpu().numpy()
        np.savez(out, loss=loss.item(), logits=logits, **grads)
        return {"ok": True}


class Neuron(Side):
    """One neuron layer forward and backward, in SpikingJelly's layout [T, B, C, H, W]."""

    def build(self):
        spec = self.spec
        batch, height, width, channels = spec["shape"]
        torch._dynamo.reset()  # each case compiles for itself, as a program with one T would
        self.layer, self.forward = self.make(channels)
        shape = (spec["timesteps"], batch, channels, height, width)
        draw = torch.Generator().manual_seed(0)
        dtype = DTYPES[spec["dtype"]]
        self.x, self.gradient = (
            torch.randn(shape, generator=draw).to(DEVICE, dtype) for _ in range(2)
        )
        self.x.requires_grad_()

    def make(self, channels):
        """(the layer, what is called of it)."""
        kind = self.spec["neuron"]
        layer = networks.NEURONS[kind]().to(DEVICE)
        return layer, torch.compile(layer) if kind == "dalif_compiled" else layer

    def numbers(self):
        """{our name: its parameter}."""
        return networks.named(self.layer)

    def step(self):
        if hasattr(self.layer, "reset"):
            self.layer.reset()
        functional.reset_net(self.layer)
        self.forward(self.x).backward(self.gradient)
        self.x.grad = None
        self.layer.zero_grad(set_to_none=True)

    def copy(self, repeats):
        """Seconds to copy x once: the bandwidth the floor is counted in."""
        source = self.x.detach()
        target = torch.empty_like(source)
        target.copy_(source)
        seconds = _timed(lambda: target.copy_(source), repeats)
        return {"seconds": seconds, "bytes": source.nbytes}

    def gate(self, inputs, out):
        self.build()
        given, numbers = np.load(inputs), self.numbers()
        for name, parameter in numbers.items():
            parameter.data.copy_(torch.as_tensor(given[name]))
        turn = lambda v: torch.as_tensor(v).permute(1, 0, 4, 2, 3).to(DEVICE)  # noqa: E731
        back = lambda v: v.detach().permute(1, 0, 3, 4, 2).cpu().numpy()  # noqa: E731
        x = turn(given["x"]).requires_grad_()
        functional.reset_net(self.layer)
        spikes = self.forward(x)
        spikes.backward(turn(given["gradient"]))
        grads = {name: parameter.grad.cpu().numpy() for name, parameter in numbers.items()}
        np.savez(out, spikes=back(spikes), x=back(x.grad), **grads)
        return {"ok": True}


class Layer(Neuron):
    """One layer of SpikingJelly's own neurons."""

    def make(self, channels):
        spec = self.spec
        layer = networks.layer_of(spec["neuron"], spec["timesteps"], channels)
        layer = layer.to(DEVICE, torch.float64 if spec["dtype"] == "float64" else None)
        return layer, layer

    def numbers(self):
        own = dict(self.layer.named_parameters())
        names = networks.NUMBERS.get(self.spec["neuron"], {})
        return {name: own[theirs] for name, theirs in names.items()}


if __name__ == "__main__":
    from torch_models import Model

    kinds = {"step": Step, "neuron": Neuron, "layer": Layer, "model": Model}

    def make(spec):
        if spec["kind"] == "inference":  # it imports snnTorch, which the others can do without
            from torch_inference import Inference as kind
        else:
            kind = kinds[spec["kind"]]
        return kind(spec)

    serve(make)
