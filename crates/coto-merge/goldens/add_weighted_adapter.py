"""Writes add_weighted_adapter.safetensors and .json: adapters of a toy model, and what PEFT's `add_weighted_adapter` makes of them.

    python add_weighted_adapter.py     (needs torch, peft and safetensors)

A ΔW is measured, not computed: what a layer with the adapter adds to its base layer's output on the identity matrix. Where PEFT
is right, `expected/CASE/MODULE` is its ΔW. Where it is not, that is `peft/CASE/MODULE`, and `expected` is put together from PEFT's
own functions without the fault, or from dense matrices; what PEFT says or leaves where it gives no ΔW is in the JSON.
"""

import contextlib
import json
import pathlib
import tempfile
import warnings
from unittest import mock

import torch
from peft import LoraConfig, PeftModel, __version__
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file, save_file

HERE = pathlib.Path(__file__).parent

CONFIGS = {
    "one": dict(r=3, lora_alpha=6),
    "two": dict(r=3, lora_alpha=2),
    "three": dict(r=3, lora_alpha=5, use_rslora=True),
    "small": dict(r=2, lora_alpha=3),
    "pattern": dict(r=4, rank_pattern={"value": 2}, alpha_pattern={"layers.0.query": 7}),
    "pattern_too": dict(r=4, rank_pattern={"value": 2}),
    "query": dict(r=3, lora_alpha=4, target_modules=["query"]),
    "lower": dict(r=3, lora_alpha=4, layers_to_transform=[0]),
    "excluding": dict(r=3, lora_alpha=4, exclude_modules=["model.layers.1.value"]),
    "regex": dict(r=3, lora_alpha=4, target_modules=r".*\.(query|value)"),
    "dora": dict(r=3, lora_alpha=6, use_dora=True),
    "bias": dict(r=3, lora_alpha=6, lora_bias=True),
    "pissa": dict(r=3, lora_alpha=6, init_lora_weights="pissa"),
}
BOTH = ["query", "value"]
PAIR, TRIPLE = ["one", "two"], ["one", "two", "three"]

# What PEFT does right: adapters, weights, options.
RIGHT = {
    "svd": (PAIR, [0.7, 0.4], dict(combination_type="svd")),
    "svd of three": (TRIPLE, [0.7, -0.4, 0.5], dict(combination_type="svd", svd_rank=2)),
    "svd of three, whole": (TRIPLE, [0.7, -0.4, 0.5], dict(combination_type="svd", svd_rank=6)),
    "svd of ranks": (["pattern", "small"], [0.5, 1.5], dict(combination_type="svd")),
    "svd of some modules": (["one", "query"], [0.5, 1.5], dict(combination_type="svd", svd_rank=2)),
    "cat": (TRIPLE, [0.7, -0.4, 0.5], dict(combination_type="cat")),
    "cat of ranks": (["pattern", "small"], [0.5, 1.5], dict(combination_type="cat")),
    "cat of some modules": (["one", "query"], [0.5, 1.5], dict(combination_type="cat")),
    "linear": (TRIPLE, [0.7, -0.4, 0.5], dict(combination_type="linear")),
    "linear of some modules": (["one", "query"], [0.5, 1.5], dict(combination_type="linear")),
    "linear of one": (["one"], [-0.6], dict(combination_type="linear")),
    "magnitude_prune": (TRIPLE, [0.7, -0.4, 0.5], dict(combination_type="magnitude_prune", density=0.45)),
    "magnitude_prune_svd": (TRIPLE, [0.7, -0.4, 0.5], dict(combination_type="magnitude_prune_svd", density=0.45)),
    "ties of all": (PAIR, [0.7, 0.4], dict(combination_type="ties", density=1.0)),
}
for sign in ["total", "frequency"]:
    for kind in ["ties", "ties_svd", "dare_ties", "dare_ties_svd"]:
        options = dict(combination_type=kind, density=0.45, majority_sign_method=sign)
        RIGHT[f"{kind}, {sign}"] = (TRIPLE, [0.7, -0.4, 0.5], options)
for kind in ["dare_linear", "dare_linear_svd"]:
    RIGHT[kind] = (PAIR, [0.7, -0.4], dict(combination_type=kind, density=0.6))

# One adapter: PEFT takes `linear` for whatever is asked.
SINGLE = {
    "svd of one": dict(combination_type="svd", svd_rank=1),
    "ties of one": dict(combination_type="ties", density=0.4),
    "ties_svd of one": dict(combination_type="ties_svd", density=0.4),
    "magnitude_prune_svd of one": dict(combination_type="magnitude_prune_svd", density=0.4),
    "dare_linear of one": dict(combination_type="dare_linear", density=0.6),
}


class Layer(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.query = torch.nn.Linear(10, 6)
        self.value = torch.nn.Linear(6, 10)


class Toy(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.model = torch.nn.Module()
        self.model.layers = torch.nn.ModuleList([Layer(), Layer()])


def toy():
    torch.manual_seed(3)
    return Toy()


def make(name, folder):
    """Saves an adapter whose factors, biases and magnitudes are random."""
    config = LoraConfig(**{"target_modules": BOTH, **CONFIGS[name]})
    model = PeftModel(toy(), config)
    torch.manual_seed(list(CONFIGS).index(name) + 10)
    with torch.no_grad():
        for path, parameter in model.named_parameters():
            if "magnitude" in path:
                parameter.mul_(1 + 0.3 * torch.rand_like(parameter))
            elif "lora" in path:
                parameter.copy_(0.5 * torch.randn_like(parameter))
    model.save_pretrained(folder)


def load(folders, adapters):
    first, *rest = adapters
    model = PeftModel.from_pretrained(toy(), folders / first, adapter_name=first)
    for name in rest:
        model.load_adapter(folders / name, adapter_name=name)
    return model.eval()


def layers(model):
    prefix = "base_model.model."
    return {path.removeprefix(prefix): m for path, m in model.named_modules() if isinstance(m, LoraLayer)}


def measured(model, adapter, bias=False):
    """ΔW of each layer that the adapter has; or what the adapter adds for the input 0."""
    model.base_model.set_adapter(adapter)
    found = {}
    with torch.no_grad():
        for path, layer in layers(model).items():
            if adapter in layer.lora_A:
                zero = layer(torch.zeros(1, layer.in_features)) - layer.base_layer.bias
                whole = layer(torch.eye(layer.in_features)) - layer.base_layer.bias - zero
                found[path] = zero if bias else (whole - layer.base_layer.weight.T).T.contiguous()
    return found


@contextlib.contextmanager
def as_asked(kind):
    """`_check_add_weighted_adapter` without the rule for one adapter: an adapter of weight 0 would count otherwise."""
    from peft.tuners.lora.model import LoraModel

    check = LoraModel._check_add_weighted_adapter

    def checked(self, adapters, combination_type, svd_rank):
        _, rank, targets = check(self, adapters, combination_type, svd_rank)
        return combination_type, svd_rank or rank, targets

    with mock.patch.object(LoraModel, "_check_add_weighted_adapter", checked):
        yield


class Goldens:
    def __init__(self, folders):
        self.folders = folders
        self.tensors = {}
        self.facts = {"peft": __version__, "torch": torch.__version__, "adapters": {}, "cases": {}, "faults": {}}

    def adapter(self, name):
        make(name, self.folders / name)
        self.facts["adapters"][name] = json.loads((self.folders / name / "adapter_config.json").read_text())
        for key, tensor in load_file(self.folders / name / "adapter_model.safetensors").items():
            self.tensors[f"adapters/{name}/{key}"] = tensor

    def case(self, name, adapters, weights, options):
        self.facts["cases"][name] = dict(adapters=adapters, weights=weights, options=options)

    def put(self, kind, name, found):
        for path, tensor in found.items():
            self.tensors[f"{kind}/{name}/{path}"] = tensor.float().contiguous()

    def merged(self, name, adapters, weights, options):
        """The model with the merged adapter; the masks that DARE drew are noted."""
        drawn = []

        def log(probabilities):
            drawn.append(bernoulli(probabilities))
            return drawn[-1]

        bernoulli = torch.bernoulli
        model = load(self.folders, adapters)
        torch.manual_seed(5)
        with mock.patch("torch.bernoulli", log):
            model.base_model.add_weighted_adapter(adapters, weights, "merged", **options)
        factors = ["delta"] if options["combination_type"].endswith("svd") else ["a", "b"]
        for path, layer in layers(model).items() if drawn else []:
            for factor in factors:
                for index, adapter in enumerate(adapters):
                    if adapter in layer.lora_A:
                        self.tensors[f"masks/{name}/{path}/{factor}/{index}"] = drawn.pop(0).to(torch.uint8)
        assert not drawn
        return model

    def right(self, name, adapters, weights, options):
        self.case(name, adapters, weights, options)
        self.put("expected", name, measured(self.merged(name, adapters, weights, options), "merged"))

    def single(self, name, options):
        self.case(name, ["one"], [0.8], options)
        self.put("peft", name, measured(self.merged(f"{name} (PEFT)", ["one"], [0.8], options), "merged"))
        with as_asked(options["combination_type"]):
            self.put("expected", name, measured(self.merged(name, ["one"], [0.8], options), "merged"))

    def dense(self, adapters, weights):
        """Σ wₖ ΔWₖ of the adapters, each loaded alone."""
        total = {}
        for name, weight in zip(adapters, weights):
            for path, delta in measured(load(self.folders, [name]), name).items():
                total[path] = total.get(path, 0) + weight * delta
        return total

    def fails(self, name, adapters, weights, options, what=lambda model: None):
        """PEFT's error, in the merge or in what is done with it."""
        self.case(name, adapters, weights, options)
        try:
            self.facts["faults"][name] = what(self.merged(name, adapters, weights, options))
        except Exception as error:
            self.facts["faults"][name] = f"{type(error).__name__}: {error}".splitlines()[0]

    def faults(self):
        cat, svd = dict(combination_type="cat"), dict(combination_type="svd")

        # rsLoRA of the first adapter stays switched on: the scale is √r, not 1.
        for name, options in [("rslora", cat), ("rslora svd", dict(svd, svd_rank=4))]:
            self.case(name, ["three", "one"], [0.5, 0.5], options)
            self.put("peft", name, measured(self.merged(name, ["three", "one"], [0.5, 0.5], options), "merged"))
        self.put("expected", "rslora", self.dense(["three", "one"], [0.5, 0.5]))
        total = self.dense(["three", "one"], [0.5, 0.5])
        for path, delta in total.items():
            u, s, v = torch.linalg.svd(delta)
            total[path] = u[:, :4] * s[:4] @ v[:4]
        self.put("expected", "rslora svd", total)

        # DoRA's magnitudes are not merged.
        self.case("dora", ["dora"], [1.0], cat)
        self.put("peft", "dora", measured(self.merged("dora", ["dora"], [1.0], cat), "merged"))
        self.put("expected", "dora", measured(load(self.folders, ["dora"]), "dora"))
        # Nor are the adapters' own biases.
        self.case("bias", ["bias"], [1.0], cat)
        self.put("peft", "bias", measured(self.merged("bias", ["bias"], [1.0], cat), "merged", bias=True))
        self.put("expected", "bias", measured(load(self.folders, ["bias"]), "bias", bias=True))
        # PiSSA takes the new adapter's start out of the base weights, which all adapters share.
        base = {path: layer.base_layer.weight.clone() for path, layer in layers(load(self.folders, ["pissa"])).items()}
        model = self.merged("pissa", ["pissa"], [1.0], cat)
        self.case("pissa", ["pissa"], [1.0], cat)
        moved = {path: (layer.base_layer.weight - base[path]).abs().max().item() for path, layer in layers(model).items()}
        self.facts["faults"]["pissa"] = moved

        # Which modules: what confines the first adapter cuts the others' off, or leaves modules without any adapter.
        for first in ["lower", "excluding"]:
            name, adapters = f"{first} first", [first, "one"]
            self.case(name, adapters, [0.5, 0.5], cat)
            self.put("peft", name, measured(self.merged(name, adapters, [0.5, 0.5], cat), "merged"))
            self.put("expected", name, self.dense(adapters, [0.5, 0.5]))
        self.fails("list and regex", ["one", "regex"], [0.5, 0.5], cat)
        self.put("expected", "list and regex", self.dense(["one", "regex"], [0.5, 0.5]))
        self.fails("lower last", ["query", "lower"], [0.5, 0.5], cat)
        self.put("expected", "lower last", self.dense(["query", "lower"], [0.5, 0.5]))

        # Factors of the modules' own ranks under a configuration without patterns: PEFT cannot read what it saves.
        def reread(model):
            with tempfile.TemporaryDirectory() as folder:
                model.save_pretrained(folder, selected_adapters=["merged"])
                PeftModel.from_pretrained(toy(), folder + "/merged")

        linear = dict(combination_type="linear")
        pair = (["pattern", "pattern_too"], [0.5, 0.8])
        self.fails("linear of ranks", *pair, linear, reread)
        model = self.merged("linear of ranks", *pair, linear)
        self.put("expected", "linear of ranks", measured(model, "merged"))
        # More ranks than a module has.
        self.fails("svd of too high a rank", PAIR, [0.7, 0.4], dict(svd, svd_rank=9), reread)
        self.put("expected", "svd of too high a rank", self.dense(PAIR, [0.7, 0.4]))
        # Unknown names that end well leave an adapter of zeros.
        model = self.merged("unknown", PAIR, [0.7, 0.4], dict(combination_type="linear_svd"))
        self.facts["faults"]["unknown"] = max(d.abs().max().item() for d in measured(model, "merged").values())
        # Weights without an adapter, or adapters without a weight.
        self.put("peft", "weights", measured(self.merged("weights", PAIR, [0.7], cat), "merged"))
        self.put("expected", "weights", self.dense(["one"], [0.7]))
        # DARE at density 0.
        none = dict(combination_type="dare_linear", density=0.0)
        model = self.merged("density 0", PAIR, [0.7, 0.4], none)
        for key in [key for key in self.tensors if key.startswith("masks/density 0/")]:
            del self.tensors[key]
        self.facts["faults"]["density 0"] = all(d.isnan().all().item() for d in measured(model, "merged").values())
        self.clamp()
        self.convolutions()

    def clamp(self):
        """`svd_clamp` takes a quantile of signed entries of singular vectors, whose signs are arbitrary."""
        options = dict(combination_type="svd", svd_rank=3, svd_clamp=0.9)
        self.case("clamp", PAIR, [0.7, 0.4], options)
        self.put("peft", "clamp", measured(self.merged("clamp", PAIR, [0.7, 0.4], options), "merged"))
        plain = torch.linalg.svd

        def turned(matrix, **options):
            u, s, v = plain(matrix, **options)
            signs = torch.where(torch.arange(len(s)) % 2 == 0, 1.0, -1.0) * u[0, : len(s)].sign()
            u[:, : len(s)] *= signs
            v[: len(s)] *= signs[:, None]
            return u, s, v

        with mock.patch("torch.linalg.svd", turned):
            self.put("peft", "clamp, turned", measured(self.merged("clamp", PAIR, [0.7, 0.4], options), "merged"))
        expected = self.dense(PAIR, [0.7, 0.4])
        for path, delta in expected.items():
            u, s, v = plain(delta.double())
            u, v = u[:, :3] * s[:3], v[:3]
            entries = torch.cat([u.flatten(), v.flatten(), -u.flatten(), -v.flatten()])
            high = torch.quantile(entries, 0.9)
            expected[path] = u.clamp(-high, high) @ v.clamp(-high, high)
        self.put("expected", "clamp", expected)

    def convolutions(self):
        for name, kind, size in [("Conv1d", torch.nn.Conv1d, 3), ("Conv3d", torch.nn.Conv3d, 3), ("Conv2d", torch.nn.Conv2d, 3)]:
            model = PeftModel(torch.nn.Sequential(kind(4, 6, size)), LoraConfig(r=2, target_modules=["0"]), adapter_name="x")
            model.add_adapter("y", LoraConfig(r=2, target_modules=["0"]))
            try:
                model.base_model.add_weighted_adapter(["x", "y"], [0.5, 0.5], "merged", combination_type="svd")
                model.base_model.set_adapter("merged")
                model(torch.zeros(1, 4, *[5] * (model.base_model.model[0].weight.dim() - 2)))
                self.facts["faults"][name] = None
            except Exception as error:
                self.facts["faults"][name] = f"{type(error).__name__}: {error}".splitlines()[0]


def main():
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folders:
        goldens = Goldens(pathlib.Path(folders))
        for name in CONFIGS:
            goldens.adapter(name)
        for name, case in RIGHT.items():
            goldens.right(name, *case)
        for name, options in SINGLE.items():
            goldens.single(name, options)
        goldens.faults()
    save_file(goldens.tensors, HERE / "add_weighted_adapter.safetensors")
    (HERE / "add_weighted_adapter.json").write_text(json.dumps(goldens.facts, indent=1) + "\n")


if __name__ == "__main__":
    main()
