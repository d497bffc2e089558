"""The FLASH transformer as its formulas read (Hua et al. 2022; convolution and castling of You et al., ICML 2024): every
pair of rows, no groups of work. transformers has no such family, so this is what ours is measured against; it is itself
measured against what the authors' layers returned (tests/data/attention/flash_layer_*). Names and arguments are those of
the original module."""
import json
import math

import torch
from safetensors.torch import save_file

DEFAULTS = dict(num_tokens=131, dim=24, depth=2, group_size=16, query_key_dim=20, expansion_factor=2.0, causal=True,
                norm_type="scalenorm", shift_tokens=True, laplace_attn_fn=True, conv=False, kernel=63, castling=False,
                global_=True, local_=True)  # fmt: skip


def buckets(distance, causal, count=32, reach=128):
    """T5's bucket of keys at `distance` after their queries."""
    first = torch.zeros_like(distance)
    if causal:
        distance = (-distance).clamp(min=0)
    else:
        count //= 2
        first = (distance > 0).long() * count
        distance = distance.abs()
    exact = count // 2
    wide = exact + (torch.log(distance.float() / exact) / math.log(reach / exact) * (count - exact)).long()
    return first + torch.where(distance < exact, distance, wide.clamp(max=count - 1))


def rotate(x, rotated=32):
    """Neighbours (2i, 2i + 1) of the first channels, by position."""
    rotated = min(rotated, x.shape[-1])
    angle = torch.arange(x.shape[0])[:, None] * 10000.0 ** (-torch.arange(0, rotated, 2) / rotated)
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    even, odd = x[:, 0:rotated:2], x[:, 1:rotated:2]
    turned = torch.stack([even * cos - odd * sin, odd * cos + even * sin], -1).flatten(1)
    return torch.cat([turned, x[:, rotated:]], -1)


def normed(x, weights, config):
    if config["norm_type"] == "layernorm":
        return torch.nn.functional.layer_norm(x, x.shape[-1:], weights["norm.weight"], weights["norm.bias"], 1e-5)
    return x / (x.norm(dim=-1, keepdim=True) / math.sqrt(x.shape[-1])).clamp(min=1e-5) * weights["norm.g"]


def layer(x, weights, config, real=None):
    """x [T, dim] -> [T, dim]; real [T]: rows that are not padding."""
    silu = torch.nn.functional.silu
    tokens, group = x.shape[0], config["group_size"]
    h = normed(x, weights, config)
    if config["shift_tokens"]:
        half = (h.shape[1] + 1) // 2
        before = torch.cat([torch.zeros_like(h[:1, :half]), h[:-1, :half]])
        h = torch.cat([before, h[:, half:]], -1)
    v, gate = silu(h @ weights["to_hidden.0.weight"].T + weights["to_hidden.0.bias"]).chunk(2, -1)
    z = silu(h @ weights["to_qk.0.weight"].T + weights["to_qk.0.bias"])
    near_q, far_q, near_k, far_k = (
        rotate(z * scale + shift)
        for scale, shift in zip(weights["qk_offset_scale.gamma"], weights["qk_offset_scale.beta"], strict=True)
    )
    t, s = torch.arange(tokens)[:, None], torch.arange(tokens)[None, :]
    bias = weights["rel_pos_bias.relative_attention_bias.weight"][buckets(s - t, config["causal"]), 0]
    score = near_q @ near_k.T / group + math.sqrt(config["query_key_dim"]) * bias
    if config["laplace_attn_fn"]:
        near = 0.5 * (1 + torch.erf((score - math.sqrt(0.5)) / (math.sqrt(1 / (4 * math.pi)) * math.sqrt(2))))
    else:
        near = score.relu() ** 2
    near = near * (t // group == s // group)
    far = far_q @ far_k.T
    if real is not None:
        near, far = near * real, far * real
    if config["causal"]:
        near = near * (s <= t)
        far = far / group * (s // group < t // group)
    else:
        far = far / tokens
    y = (near @ v if config["local_"] else 0) + (far @ v if config["global_"] else 0)
    if config["conv"]:
        taps = weights["dwconv.weight"].flatten()[: config["kernel"] // 2 + 1]
        if config["castling"]:
            y = 0.5 * v + y / math.pi
            y = y / y.norm(dim=-1, keepdim=True)
        for i, tap in enumerate(taps.flip(0)):  # i rows back
            y = y + tap * torch.cat([torch.zeros_like(v[:i]), v[: max(0, tokens - i)]])[:tokens]
    return (gate * y) @ weights["to_out.weight"].T + weights["to_out.bias"] + x


def random_weights(config, seed):
    generator = torch.Generator().manual_seed(seed)
    dim, roles, inner = config["dim"], config["query_key_dim"], int(config["dim"] * config["expansion_factor"])

    def normal(*shape, scale=1.0, mean=0.0):
        return torch.randn(*shape, generator=generator) * scale + mean

    weights = {"token_emb.weight": normal(config["num_tokens"], dim), "abs_pos_emb.scale": normal(1, mean=1.0)}
    for i in range(config["depth"]):
        own = {
            "to_hidden.0.weight": normal(2 * inner, dim, scale=0.3),
            "to_hidden.0.bias": normal(2 * inner, scale=0.2),
            "to_qk.0.weight": normal(roles, dim, scale=0.3),
            "to_qk.0.bias": normal(roles, scale=0.2),
            "qk_offset_scale.gamma": normal(4, roles),
            "qk_offset_scale.beta": normal(4, roles, scale=0.3),
            "to_out.weight": normal(dim, inner, scale=0.1),
            "to_out.bias": normal(dim, scale=0.1),
            "rel_pos_bias.relative_attention_bias.weight": normal(32, 1, scale=0.2),
        }
        if config["norm_type"] == "scalenorm":
            own["norm.g"] = normal(1, scale=0.1, mean=1.0)
        else:
            own |= {"norm.weight": normal(dim, scale=0.1, mean=1.0), "norm.bias": normal(dim, scale=0.1)}
        if config["conv"]:
            own["dwconv.weight"] = normal(1, 1, config["kernel"], 1, scale=0.2)
        weights |= {f"layers.{i}.{name}": value for name, value in own.items()}
    return weights | {
        "to_logits.0.weight": normal(dim, scale=0.1, mean=1.0),
        "to_logits.0.bias": normal(dim, scale=0.1),
        "to_logits.1.weight": normal(config["num_tokens"], dim, scale=0.3),
        "to_logits.1.bias": normal(config["num_tokens"], scale=0.3),
    }


class FlashModel:
    def __init__(self, seed, **changes):
        self.config = DEFAULTS | changes
        self.weights = random_weights(self.config, seed)

    def save(self, folder, prefix=""):
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps({"model_type": "flash", **self.config}))
        save_file({prefix + name: value for name, value in self.weights.items()}, folder / "model.safetensors")

    def logits(self, ids):
        """[T] -> [T, vocabulary], in f64."""
        weights = {name: value.double() for name, value in self.weights.items()}
        dim = self.config["dim"]
        angle = torch.arange(len(ids))[:, None] * 10000.0 ** (-torch.arange(0, dim, 2).double() / dim)
        x = weights["token_emb.weight"][ids] + torch.cat([angle.sin(), angle.cos()], -1) * weights["abs_pos_emb.scale"]
        for i in range(self.config["depth"]):
            prefix = f"layers.{i}."
            x = layer(x, {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}, self.config)
        x = torch.nn.functional.layer_norm(x, (dim,), weights["to_logits.0.weight"], weights["to_logits.0.bias"], 1e-5)
        return x @ weights["to_logits.1.weight"].T + weights["to_logits.1.bias"]
