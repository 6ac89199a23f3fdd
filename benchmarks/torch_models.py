"""SpikingJelly's side of models.py: its own networks, parameters by our names."""

import numpy as np
import torch
from spikingjelly.activation_based import functional, neuron, surrogate
from spikingjelly.activation_based.model import parametric_lif_net, sew_resnet
from torch_worker import DEVICE, Step

ATAN = surrogate.ATan(alpha=2.0)


def sew_resnet18():
    return sew_resnet.sew_resnet18(
        cnf="ADD", spiking_neuron=neuron.IFNode, surrogate_function=ATAN, detach_reset=True
    )


def plifnet_gesture():
    model = parametric_lif_net.DVSGestureNet(
        128, neuron.ParametricLIFNode, init_tau=2.0, surrogate_function=ATAN, detach_reset=True
    )
    for module in model.modules():
        if "Dropout" in type(module).__name__:
            module.p = 0.0
    return model


def sew_name(name):
    """Our path of one of SpikingJelly's SEW-ResNet's parameters."""
    *parents, last = name.split(".")
    if parents == ["fc"]:
        return "head", last
    kinds = {"conv": "conv", "bn": "norm"}
    if len(parents) == 1:
        return f"stem_{kinds[parents[0][:-1]]}", last
    stage, block, *rest = parents
    at = f"stage{int(stage.removeprefix('layer')) - 1}_block{block}"
    if rest[0] == "downsample":
        return f"{at}/shortcut_{('conv', 'norm')[int(rest[1])]}", last
    return f"{at}/{kinds[rest[0][:-1]]}{int(rest[0][-1]) - 1}", last


def plif_name(name):
    _, index, last = name.split(".")
    unit, place = divmod(int(index), 4)
    if unit < 5:
        return f"{('conv', 'norm', 'neuron')[place]}{unit}", last
    return {22: "hidden", 23: "hidden_neuron", 25: "head", 26: "head_neuron"}[int(index)], last


MODELS = {"sew_resnet18": (sew_resnet18, sew_name), "plifnet_gesture": (plifnet_gesture, plif_name)}


class Model(Step):
    def build(self):
        spec = self.spec
        make, self.name = MODELS[spec["network"]]
        wide = torch.float64 if spec["dtype"] == "float64" else torch.float32
        self.model = make().to(DEVICE, wide)
        functional.set_step_mode(self.model, "m")
        self.forward, self.amp = self.model, False
        draw = np.random.default_rng(0)
        shape = (spec["batch"], spec["size"], spec["size"], spec["channels"])
        if spec["network"] == "plifnet_gesture":
            shape = (shape[0], spec["timesteps"], *shape[1:])
        self.x = self.place(draw.normal(size=shape), wide)
        classes = 11 if spec["network"] == "plifnet_gesture" else 1000
        self.labels = torch.as_tensor(draw.integers(0, classes, spec["batch"]), device=DEVICE)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1, momentum=0.9)

    def paths(self):
        """{our path: (parameter, whether its inputs are a flattened map)}."""
        found = {}
        for name, parameter in self.model.named_parameters():
            layer, last = self.name(name)
            if last == "weight":
                last = "kernel" if parameter.ndim > 1 else "scale"
            found[f"params/{layer}/{last}"] = parameter, layer == "hidden" and last == "kernel"
        return found

    def gate(self, inputs, out):
        self.build()
        given = np.load(inputs)
        for path, (parameter, flat) in self.paths().items():
            with torch.no_grad():
                parameter.copy_(torch.as_tensor(theirs(given[path], flat)))
        x = given["x"] if given["x"].shape[1] > 1 else given["x"][:, 0]
        labels = torch.as_tensor(given["labels"], device=DEVICE)
        loss, logits = self.loss(self.model, self.place(x, torch.float64), labels)
        loss.backward()
        logits = logits.detach().transpose(0, 1).cpu().numpy()
        grads = {
            path: ours(parameter.grad.cpu().numpy(), flat)
            for path, (parameter, flat) in self.paths().items()
        }
        np.savez(out, loss=loss.item(), logits=logits, **grads)
        return {"ok": True}


def theirs(value, flat):
    """Flax's layout -> PyTorch's; a flattened map is [H, W, C] here and [C, H, W] there."""
    if value.ndim == 4:
        return value.transpose(3, 2, 0, 1)
    if flat:
        side = round((len(value) / 128) ** 0.5)
        value = value.reshape(side, side, 128, -1).transpose(2, 0, 1, 3).reshape(len(value), -1)
    return value.T if value.ndim == 2 else value


def ours(value, flat):
    if value.ndim == 4:
        return value.transpose(2, 3, 1, 0)
    value = value.T if value.ndim == 2 else value
    if flat:
        side = round((len(value) / 128) ** 0.5)
        value = value.reshape(128, side, side, -1).transpose(1, 2, 0, 3).reshape(len(value), -1)
    return value
