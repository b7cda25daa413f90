/* The forecast of `sizewise roofline` with its one set of numbers for every device, in the browser.
   The arithmetic is that of sizewise.costs.forecast and kernel_fits, name by name; the numbers are
   exported from the library. tests/test_calculators.py compares both on random questions. */
(() => {
  "use strict";

  const sum = (rows, value) => rows.reduce((total, row) => total + value(row), 0);
  const smoothMax = (a, b, sharpness) => (a ** sharpness + b ** sharpness) ** (1 / sharpness);
  const times = (row) => row.count;

  /* kernel_fits.gemm_seconds, on the part of the matrix that one GPU has. */
  function product(s, F, matrix, rows, name) {
    const kind = F.kinds[name], fit = kind.fit;
    const n = matrix.split === "n" ? matrix.n / s.devices : matrix.n;
    const k = matrix.split === "k" ? matrix.k / s.devices : matrix.k;
    const bytes = n * k * kind.weight / 8 + rows * k * kind.activation / 8 + rows * n * 2;
    let waves = 1;
    if (s.sms) {
      const tiles = Math.ceil(rows / F.TILE) * Math.ceil(n / F.TILE);
      waves = (Math.ceil(tiles / s.sms) * s.sms / tiles) ** fit.waves;
    }
    const compute = 2 * rows * n * k * waves / (fit.peak * peak(s, kind));
    return fit.launch + fit.reduction * k
      + smoothMax(bytes / (fit.bandwidth * s.bandwidth), compute, fit.sharpness);
  }

  const stated = (rate) => Number.isFinite(rate) && rate > 0 ? rate : 0;
  const peak = (s, kind) => stated(s[`peak_${kind.compute}`])
    || (kind.compute === "fp4" && stated(s.peak_fp8)) || stated(s.peak);

  /* kernel_fits.moe_seconds, each expert's width shared by the GPUs. */
  function experts(s, F, inner, tokens, name) {
    const kind = F.kinds[name], fit = F.experts, width = inner / s.devices;
    const reached = s.experts * (1 - (1 - s.used / s.experts) ** tokens);
    const bytes = reached * 3 * s.hidden * width * kind.weight / 8
      + tokens * s.used * (2 * s.hidden + 3 * width) * 2;
    const compute = 6 * s.hidden * width * tokens * s.used / (fit.peak * peak(s, kind));
    return fit.launch + fit.token * tokens
      + smoothMax(bytes / (fit.bandwidth * s.bandwidth), compute, fit.sharpness);
  }

  /* roofline.keys_seen */
  function keysSeen(context, limit, stride) {
    if (Math.floor(context / stride) > limit) {
      const inside = limit * stride - 1;
      return keysSeen(inside, Infinity, stride) + (context - inside) * limit;
    }
    const entries = Math.floor((context + 1) / stride);
    return stride * entries * (entries - 1) / 2 + (context + 1) % stride * entries;
  }

  const positions = (row, context) => Math.min(Math.floor(context / row.stride), row.limit);
  const spansBits = (s, rows, context) =>
    sum(rows, (one) => positions(one, context) * one.vectors * (one.width * s.kv_bits + s.kv_row));
  const stateBits = (s, rows) =>
    sum(rows, (one) => one.conv * Math.max(s.kv_bits, 16) + one.recurrent * 32);

  /* Attention of one layer on one GPU; heads 0 stands for latents, which each GPU reads whole. */
  function attention(s, F, layer, { heads, width }, tokens, context, prompt) {
    const rate = peak(s, F.kinds.bf16), latent = heads === 0;
    if (prompt) {
      const fit = latent ? F.promptLatent : F.prompt;
      const flops = sum(layer.prompt,
        (one) => one.operations * keysSeen(prompt, one.limit, one.stride)) / s.devices;
      return fit.launch + prompt * width / s.devices / (fit.bandwidth * s.bandwidth)
        + flops / (fit.peak * rate);
    }
    const fit = latent ? F.latent : F.decode;
    const shared = Math.min(s.devices, heads || 1);
    const bytes = tokens * spansBits(s, layer.read, context) / 8 / shared;
    const reading = bytes / (fit.bandwidth * s.bandwidth);
    if (!latent) return fit.launch + reading;
    const flops = tokens * sum(layer.scores, (one) => one.operations * positions(one, context));
    return fit.launch
      + smoothMax(reading, flops / s.devices / (fit.peak * rate), fit.sharpness);
  }

  /* forecast.blocks: the mlp is what the counts leave over. */
  function blocks(s) {
    const layers = sum(s.layers, times), sparse = s.experts > 1;
    const matrices = s.layers.flatMap((layer) =>
      layer.projections.map((one) => ({ n: one.n, k: one.k, split: one.split, count: layer.count })));
    const router = sparse ? { n: s.experts, k: s.hidden, split: "" } : null;
    const head = { n: s.vocab, k: s.hidden, split: "n" };
    const left = s.active - s.lookup - s.vision - (sparse ? s.routed * s.used / s.experts : 0)
      - sum(matrices, (one) => one.n * one.k * one.count) - head.n * head.k
      - (router ? layers * router.n * router.k : 0);
    const width = Math.max(left, 0) / (3 * s.hidden * layers);
    return { layers, matrices, router, head, width,
      inner: sparse ? s.routed / (s.experts * 3 * s.hidden * layers) : 0 };
  }

  /* forecast.step_parts, added up. */
  function step(s, F, shape, tokens, context, prompt) {
    const dense = s.experts > 1 && s.only_experts ? "bf16" : s.kind;
    const { layers, head, router, width } = shape;
    let seconds = sum(shape.matrices, (one) => one.count * product(s, F, one, tokens, dense));
    if (width >= F.LEAST_WIDTH) {
      seconds += layers * product(s, F, { n: 2 * width, k: s.hidden, split: "n" }, tokens, dense);
      seconds += layers * product(s, F, { n: s.hidden, k: width, split: "k" }, tokens, dense);
    }
    seconds += product(s, F, head, prompt ? 1 : tokens, "bf16");
    let small = layers * F.SMALL_DENSE + F.SMALL_END;
    for (const layer of s.layers) {
      for (const one of layer.attention) {
        seconds += layer.count * attention(s, F, layer, one, tokens, context, prompt);
        if (one.heads === 0) small += layer.count * F.SMALL_LATENT;
      }
      if (layer.states.length) {
        const passes = prompt ? tokens / F.STATE_CHUNK : tokens;
        const moved = 2 * stateBits(s, layer.states) / 8 * passes / s.devices;
        seconds += layer.count * moved / (F.STATE_SHARE * s.bandwidth);
        small += layer.count * F.SMALL_STATE;
      }
    }
    if (router) {
      seconds += layers * product(s, F, router, tokens, "bf16");
      small += layers * F.SMALL_EXPERTS;
    }
    if (shape.inner) {
      const eight = s.kind === "mxfp4-bf16" && stated(s.peak_fp4);
      seconds += layers * experts(s, F, shape.inner, tokens, eight ? "mxfp4-fp8" : s.kind);
    }
    seconds += small * (F.SMALL + tokens * s.hidden * F.SMALL_PASSES / s.bandwidth);
    if (s.devices > 1) {
      const moved = 2 * (s.devices - 1) / s.devices * tokens * s.hidden * 2;
      const link = F.sum.link * (s.link || F.LINK);
      seconds += (2 * layers + 1) * (F.sum.launch + moved / link);
    }
    return seconds;
  }

  /* What the forecast adds to a scope that has bytes and devices; nothing where there is none. */
  function forecast(s, F) {
    s.kind ??= s.weight_bits < 6 ? "int4" : s.weight_bits < 12 ? "int8-weight-only" : "bf16";
    if (!s.devices || !peak(s, F.kinds.bf16) || !s.layers.some(times)) return {};
    const output = s.output ?? Math.max(Math.min(512, Math.floor(s.context / 2)), 1);
    const input = s.input ?? Math.max(s.context - Math.floor(output / 2), 1);
    const free = F.USABLE * s.devices * s.memory
      - (s.always_bytes + s.table_bytes + s.routed_bytes + s.vision_bytes);
    const request = sum(s.layers, (layer) => times(layer) * Math.ceil(
      (spansBits(s, layer.held, input + output) + stateBits(s, layer.states)) / 8));
    const first = s.layers.find((layer) => times(layer) && layer.attention.length);
    const copies = first
      ? s.devices / Math.min(s.devices, first.attention[0].heads || 1) : 1;
    const room = Math.floor(free / (request * copies));
    if (!(room >= 1)) return {};
    const batch = Math.min(s.batch, room), shape = blocks(s);
    const read = (n) => n ? step(s, F, shape, n, 0, n) : 0;
    const whole = Math.floor(input / F.CHUNK);
    const prompt = (whole ? whole * read(F.CHUNK) : 0) + read(input % F.CHUNK);
    const context = Math.floor(input + output / 2);
    const seconds = step(s, F, shape, batch, context, 0) + (batch - 1) / output * prompt;
    const found = {
      forecast_batch: batch, forecast_seconds: seconds, prompt_seconds: prompt,
      forecast_low: seconds * F.band.low, forecast_high: seconds * F.band.high,
    };
    if (s.price_low != null) {
      const hours = s.devices * seconds / 3600 / batch * 1e6;
      found.forecast_dollars_low = hours * s.price_low;
      found.forecast_dollars_high = hours * s.price_high;
    }
    if (s.watts) found.forecast_joules = 1e6 * joules(s, F, seconds, batch, context);
    return found;
  }

  /* energy.joules_per_token over forecast.floor_parts */
  function joules(s, F, seconds, batch, context) {
    const reached = 1 - (1 - s.used / s.experts) ** batch;
    const weights = s.always_bytes + Math.min(1, batch / s.vocab) * s.table_bytes
      + reached * s.routed_bytes;
    const cache = batch * sum(s.layers, (layer) => times(layer)
      * (spansBits(s, layer.read, Math.max(context, 1)) + 2 * stateBits(s, layer.states))) / 8;
    const rates = [s.kind, ...(s.experts > 1 && s.only_experts ? ["bf16"] : [])]
      .map((name) => peak(s, F.kinds[name]));
    const flops = 2 * (s.active - s.lookup - s.vision) * batch;
    const memory = (weights + cache) / s.bandwidth / s.devices / seconds;
    const compute = flops / Math.max(...rates) / s.devices / seconds;
    const share = F.watts.idle + F.watts.memory * memory + F.watts.flops * compute ** 0.5;
    return s.watts * share * s.devices * seconds / batch;
  }

  globalThis.sizewiseForecast = forecast;
})();
