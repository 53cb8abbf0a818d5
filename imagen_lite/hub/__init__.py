"""Models of others in our cascade: DeepFloyd IF, or any U-Net of `diffusers` that works on pixels; and yours published.

    from imagen_lite.hub import EmptyNull, PipelineTextEncoder, load_diffusers_stage

    stages = {64: load_diffusers_stage("DeepFloyd/IF-I-M-v1.0"), 256: load_diffusers_stage("DeepFloyd/IF-II-M-v1.0")}
    cascade = Cascade(EmptyNull(PipelineTextEncoder("DeepFloyd/IF-I-M-v1.0")), stages)

    push_to_hub("my_model", "someone/my-imagen")      # with a model card; load_cascade(folder="someone/my-imagen")

`diffusers` and `transformers` are imported when they are needed, not before. Weights are safetensors, nothing is
unpickled, and no code comes from the hub.
"""

from imagen_lite.hub.publish import push_to_hub, save_pretrained
from imagen_lite.hub.stage import DiffusersStage, DiffusersUNet, load_diffusers_stage
from imagen_lite.hub.text import EmptyNull, PipelineTextEncoder, PromptEmbedding

__all__ = [
    "DiffusersStage",
    "DiffusersUNet",
    "EmptyNull",
    "PipelineTextEncoder",
    "PromptEmbedding",
    "load_diffusers_stage",
    "push_to_hub",
    "save_pretrained",
]
