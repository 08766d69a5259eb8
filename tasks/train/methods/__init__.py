"""All methods: what ``train.method`` can be. A new one is a file beside this one and a line here (docs/methods.md)."""
# ruff: noqa: F401

from __future__ import annotations

from tasks.train.method import Method
from tasks.train.methods.adabn import AdaBn
from tasks.train.methods.adabn_tuned import AdaBnTuned
from tasks.train.methods.adapt_tuned import AdaptTuned
from tasks.train.methods.adda import Adda
from tasks.train.methods.auto import Auto
from tasks.train.methods.cdan import Cdan
from tasks.train.methods.coral import Coral
from tasks.train.methods.dan import Dan
from tasks.train.methods.dann import Dann
from tasks.train.methods.deep_coral import DeepCoral
from tasks.train.methods.distill import Distill, DistillTuned
from tasks.train.methods.dynamic import Dynamic
from tasks.train.methods.full import Full
from tasks.train.methods.gated_fusion import GatedFusion
from tasks.train.methods.gradual import Gradual
from tasks.train.methods.linear import Linear
from tasks.train.methods.logits_ensemble import LogitsEnsemble
from tasks.train.methods.lora import LoRA
from tasks.train.methods.lp_ft import LpFt
from tasks.train.methods.mcc import Mcc
from tasks.train.methods.mlp import Mlp
from tasks.train.methods.neighbours import KNearest
from tasks.train.methods.optimal_transport import OptimalTransport
from tasks.train.methods.partial import Partial
from tasks.train.methods.prototypes import Prototypes
from tasks.train.methods.ridge import Ridge
from tasks.train.methods.self_training import SelfTraining
from tasks.train.methods.subspace import Subspace

METHODS: dict[str, type[Method]] = {
    kind.model_fields["method"].default: kind
    for kind in list(globals().values())
    if isinstance(kind, type) and issubclass(kind, Method) and kind is not Method
}
