"""Sizes of a small copy of any decoder, by the config keys that architectures use for them."""

from __future__ import annotations

from typing import Any

HIDDEN, HEADS, HEAD_DIM, EXPERTS, MOST_LAYERS = 64, 4, 16, 4, 8
REACH = 8
"""Tokens of every window, chunk and top-k of the copy."""
LENGTH_LIMIT = 16
"""Positions after which the copy's dynamic embeddings change."""
POSITIONS = 128
SIZES: tuple[tuple[int, str], ...] = (
    (
        HIDDEN,
        """hidden_size n_embd d_model embedding_dim embedding_size emb_dim word_embed_proj_dim lru_width
        input_embedding_size output_embedding_size backbone_hidden_size""",
    ),
    (
        96,
        """intermediate_size ffn_dim dim_ff dff n_inner encoder_ffn_dim decoder_ffn_dim ffn_hidden_size d_inner
        dense_intermediate_size intermediate_size_mlp feed_forward_size""",
    ),
    (
        32,
        """moe_intermediate_size shared_expert_intermediate_size expert_ffn_hidden_size shared_intermediate_size
        moe_shared_expert_intermediate_size router_hidden_size hc_lowrank ple_embed_dim hidden_size_per_layer_input
        linear_value_head_dim index_head_dim time_step_rank""",
    ),
    (24, "q_lora_rank o_lora_rank mamba_dt_rank qk_head_dim"),
    (
        HEAD_DIM,
        """head_dim dim_head kv_channels d_head global_head_dim swa_head_dim qk_nope_head_dim kv_lora_rank v_head_dim
        linear_key_head_dim linear_head_dim mamba_d_head mamba_head_dim mamba_headdim state_size mamba_d_state ssm_state_size
        laurel_rank adapter_rank gated_norm_rank d_rel attention_head_size rotary_dim swa_v_head_dim""",
    ),
    (
        8,
        """qk_rope_head_dim mamba_n_heads mamba_num_heads n_mamba_heads num_centroids pronunciation_embed_dim
        shape_embed_dim prompt_mid_dim centroid_intermediate_top_k""",
    ),
    (
        HEADS,
        """num_attention_heads n_head n_heads num_heads attention_heads encoder_attention_heads decoder_attention_heads
        num_encoder_attention_heads num_decoder_attention_heads linear_num_value_heads linear_num_heads index_n_heads
        swa_num_attention_heads heads_per_ngram cross_attn_k num_attention_heads_per_layer""",
    ),
    (EXPERTS, "num_experts num_local_experts n_routed_experts moe_num_experts zero_expert_num"),
    (
        2,
        """num_experts_per_tok num_experts_per_token moe_topk moe_k linear_num_key_heads n_shared_experts num_shared_experts
        moe_num_shared_experts n_groups mamba_n_groups mamba_ngroups o_groups topk_group n_group num_expert_group
        num_mem_blocks mamba_expand expand""",
    ),
    (
        REACH,
        """sliding_window sliding_window_size attention_window_size local_attention window_size attention_chunk_size
        index_topk chunk_size mamba_chunk_size keep_window_size floor_scale block_size rel_extent local_attn_chunk_length
        lsh_attn_chunk_length""",
    ),
    (POSITIONS, "max_position_embeddings n_positions n_ctx max_seq_len context_length max_target_positions"),
    (512, "vocab_size_per_layer_input ngram_vocab_size_base"),
)
"""Value, and the config keys that get it where they hold more."""
FEWER = {name: value for value, names in SIZES for name in names.split()}
REACHING = frozenset(next(names for value, names in SIZES if value == REACH and "sliding_window" in names).split())
LAYERS = [
    "num_hidden_layers",
    "n_layer",
    "n_layers",
    "num_layers",
    "decoder_layers",
    "encoder_layers",
    "num_decoder_layers",
    "num_blocks",
]
KEY_VALUE_HEADS = ["num_key_value_heads", "num_kv_heads", "swa_num_key_value_heads", "num_query_groups", "kv_n_heads"]
AT_MOST = {"first_k_dense_replace": 1, "num_dense_layers": 1, "num_nextn_predict_layers": 1, "num_kv_shared_layers": 2}
"""Counts of layers at the beginning or the end that are of another kind."""

OF_TYPE: dict[str, dict[str, Any]] = {
    "mamba2": {"num_heads": 8},
    "zamba": {
        "layers_block_type": ["linear_attention", "hybrid"] * 2,
        "num_hidden_layers": 4,
        "attention_hidden_size": 2 * HIDDEN,
        "attention_head_dim": 2 * HEAD_DIM,
    },
    "zamba2": {
        "layers_block_type": ["linear_attention", "hybrid"] * 2,
        "num_hidden_layers": 4,
        "hybrid_layer_ids": [1, 3],
        "attention_hidden_size": 2 * HIDDEN,
        "attention_head_dim": 2 * HEAD_DIM,
    },
    "falcon_h1": {"mamba_d_ssm": 64, "mamba_n_heads": 8, "mamba_d_head": 8},
}
"""What single architectures need besides, since their sizes depend on each other."""
