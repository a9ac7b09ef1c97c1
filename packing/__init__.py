"""Documents to token shards, the mixture, packing and the plan. `packing.loader` wants torch."""

from packing.best_fit import best_fit
from packing.cutting import cut
from packing.draws import Permutation
from packing.encode import Fim, encode_documents, encode_shard
from packing.mixture import MixtureError, Phase, Share
from packing.plan import PlanConfig, Validation, make_plan
from packing.shards import DOCUMENTS_SCHEMA, Shard, write_shard

__all__ = [
    "DOCUMENTS_SCHEMA",
    "Fim",
    "MixtureError",
    "Permutation",
    "Phase",
    "PlanConfig",
    "Shard",
    "Share",
    "Validation",
    "best_fit",
    "cut",
    "encode_documents",
    "encode_shard",
    "make_plan",
    "write_shard",
]
