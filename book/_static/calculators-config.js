/* A pasted config.json as the fields of "my own sizes". It reads decoders with key-value heads, a
   gated mlp, windows and routed experts, and says so of anything else, towers for images among it:
   the command line reads those.
   A configuration whose sizes are those of a model of the catalogue chooses that model. */
(() => {
  "use strict";

  // Model types that are read, and whether the output head is the input embedding where the
  // configuration does not say: the default of their classes in transformers.
  const TIED = {
    llama: false, mistral: false, mixtral: false, qwen2: false, qwen2_moe: false, qwen3: false,
    qwen3_moe: false, phi3: false, olmo2: false, olmo3: false, olmoe: false, gpt_oss: false,
    granite: false, seed_oss: false, smollm3: true, gemma: true, gemma2: true, gemma3_text: true,
  };
  const FORMATS = {
    fp8: "fp8-block", fbgemm_fp8: "fp8", mxfp4: "mxfp4", awq: "int4-g128-zero", gptq: "int4-g128",
    bitsandbytes: "nf4",
  };
  const OTHERS = "The command line does: sizewise memory path/to/config.json";

  function read(text, choice) {
    let whole;
    try {
      whole = JSON.parse(text);
    } catch {
      return { said: "This is no JSON. Paste the whole file, from { to }." };
    }
    if (!whole || typeof whole !== "object") return { said: "This is no configuration of a model." };
    const config = whole.text_config ? { ...whole, ...whole.text_config } : whole;
    if (whole.vision_config || whole.audio_config) {
      return { said: `This page reads no towers for images or sound. ${OTHERS}` };
    }
    const type = String(config.model_type);
    if (!(type in TIED)) return { said: `This page does not read model_type ${type}. ${OTHERS}` };
    const size = sizes(config, type);
    const missing = Object.entries(size).filter(([, value]) => !(Number.isInteger(value) && value >= 0));
    if (missing.length || !size.layers) {
      return { said: `The configuration does not say enough for: ${missing.map(([name]) =>
        name.replace("_", " ")).join(", ") || "layers"}.` };
    }
    const format = FORMATS[(config.quantization_config || {}).quant_method];
    const words = format ? { weights: format } : {};
    const name = known(size);
    if (name) {
      return { words: { ...words, [choice]: name }, said: `These are the sizes of ${name}: its counts are the catalogue's.` };
    }
    const { layers, ...fields } = size;
    for (const [field, value] of Object.entries(fields)) words[field] = String(value);
    return {
      words: { ...words, [choice]: "own" },
      said: `Not in the catalogue. An estimate from its ${layers} layers: ${(size.parameters / 1e9)
        .toPrecision(4)} billion parameters, biases and some norms left out.`,
    };
  }

  function sizes(c, type) {
    const heads = c.num_attention_heads, layers = c.num_hidden_layers, hidden = c.hidden_size;
    const kv = c.num_key_value_heads ?? heads, head = c.head_dim ?? hidden / heads;
    const tables = c.tie_word_embeddings ?? TIED[type] ? 1 : 2;
    const experts = c.num_local_experts ?? c.num_experts ?? 1;
    const used = experts > 1 ? c.num_experts_per_tok ?? c.experts_per_token : 1;
    const inner = experts > 1 ? c.moe_intermediate_size ?? c.intermediate_size : c.intermediate_size;
    const shared = (experts > 1 && c.shared_expert_intermediate_size) || 0;
    const mlp = (width) => 3 * hidden * width;
    const each = 2 * hidden * head * (heads + kv) + 2 * hidden + mlp(shared)
      + (experts > 1 ? experts * hidden : 0);
    const always = tables * c.vocab_size * hidden + layers * each + hidden;
    const windowed = windows(c, type, layers);
    return {
      layers,
      parameters: always + layers * experts * mlp(inner),
      active: always + layers * used * mlp(inner),
      experts, used, full_layers: layers - windowed, windowed_layers: windowed,
      window: (windowed && c.sliding_window) || 4096,
      query_heads: heads, kv_heads: kv, head_dim: head, hidden,
      mlp_width: used * inner + shared, vocab: c.vocab_size, embeddings: tables,
    };
  }

  /* How many layers look back no further than a window. */
  function windows(c, type, layers) {
    if (Array.isArray(c.layer_types)) {
      return c.layer_types.filter((one) => one === "sliding_attention").length;
    }
    const asked = c.use_sliding_window ?? !type.startsWith("qwen");
    if (!c.sliding_window || !asked) return 0;
    if (type === "gemma2" || type === "gpt_oss") return (layers + layers % 2) / 2;
    if (type === "gemma3_text") {
      const pattern = c.sliding_window_pattern ?? 6;
      return layers - (layers - layers % pattern) / pattern;
    }
    return layers;
  }

  /* The model of the catalogue with these sizes: equal shapes, and counts within a thousandth. */
  function known(size) {
    const close = (a, b) => Math.abs(a / b - 1) < 1e-3;
    const found = Object.entries(sizewiseCalculators.tables.models).find(([name, one]) =>
      name !== "own" && one.hidden === size.hidden && one.vocab === size.vocab
      && one.mlp_width === size.mlp_width && close(one.parameters, size.parameters)
      && close(one.active, size.active)
      && one.layers.reduce((total, layer) => total + layer.count, 0) === size.layers);
    return found && found[0];
  }

  globalThis.sizewiseConfig = { read };
})();
