// Words of questions that say nothing of their subject, and words of people for those of the pages.
var UNASKED = new Set(("how much many what which when why who is are do does can could should i me my " +
  "you your we it its be been have has get need really actually best there").split(" "));
var MEANT = {
  vram: "memory", ram: "memory", gpus: "gpu", vs: "versus", bigger: "larger", big: "large",
  biggest: "largest", price: "cost", pricing: "cost", expensive: "cost", fast: "speed",
  tps: "tokens", llm: "model", llms: "model", moe: "experts", quant: "quantization",
  quantized: "quantization", finetune: "training", hallucinate: "hallucination",
};
// Pages made for a question, by a word of it.
var MADE_FOR = {vram: "/calculators", fit: "/calculators", price: "/cost-and-energy",
  training: "/cost-and-energy", bigger: "/small-versus-large", better: "/small-versus-large"};
// The order of search results: Sphinx's own scores, then how much of the question a page holds.
var Scorer = {
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: {0: 15, 1: 5, 2: -5},
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,

  score: ([docname, , , , score]) => {
    const {docnames, terms, titleterms} = Search._index;
    const page = docnames.indexOf(docname);
    const holds = word => [terms, titleterms].some(
      index => Object.hasOwn(index, word) && [index[word]].flat().includes(page));
    const asked = (new URLSearchParams(location.search).get("q") || "").toLowerCase().trim();
    // "Llama 3.1 70B" is a name as well, written llama-3.1-70b.
    const names = new Set([asked.replace(/\s+/g, "-"), ...asked.split(/\s+/)]);
    const whole = [...names].filter(name => name.includes("-") && holds(name)).length;
    // The ledger lists the numbers that decide; of equals it comes first.
    const ledger = /[0-9]/.test(asked) && docname.endsWith("/ledger") ? 1 : 0;
    const made = asked.split(/\s+/).filter(word => docname.endsWith(MADE_FOR[word])).length;
    const reference = docname.startsWith("book/api/") ? 20 : 0;  // for who asks for a function
    return score + 30 * whole + ledger + 20 * made - reference;
  },
};
