// A portable model in the browser; what it answers is what `Prediction` in bearclf/ship/portable.py holds

// What the model says, from its probabilities in the order of `classes` and its distance from what it knows, if any
function prediction(classes, probs, near, facts) {
  const probabilities = classes.map((o, i) => [o, probs[i]]).sort((a, b) => b[1] - a[1]);
  const [label, probability] = probabilities[0], limit = facts.portable.near_limit ?? null;
  const familiar = near === null || limit === null ? null : near <= limit;
  return { label, probability, probabilities, familiar, sure: probability >= facts.unsure_below };
}

// `ort` is ONNX Runtime Web, `facts` what `portable_parts` in bearclf.ship.site gives
async function openModel(ort, wasmBytes, onnxBytes, facts) {
  Object.assign(ort.env.wasm, { numThreads: 1, proxy: false, wasmBinary: wasmBytes });
  const session = await ort.InferenceSession.create(onnxBytes, { executionProviders: ['wasm'] });
  const { mode, steps } = facts.portable, [height, width] = steps[steps.length - 1].size;
  const classes = facts.classes.map(String), shape = [1, mode === 'L' ? 1 : 3, height, width];
  const answer = async (pixels) => {
    // @ts-ignore: `prepared` is in prepare.js, which stands before this file in a page
    const photo = new ort.Tensor('float32', prepared(pixels, steps, mode), shape);
    const said = await session.run({ photo });
    return prediction(classes, said.probability.data, said.near ? said.near.data[0] : null, facts);
  };
  await answer({ width: 8, height: 8, data: new Uint8Array(192).fill(128) }); // the first takes longest
  return { classes, answer };
}

export { openModel };
