// How long drawings took, left in the browser's timeline of performance for whoever measures.

const MOST = 200;
let kept = 0;

/** Run `draw`, and leave a measure of that name. */
export function measured(name, draw) {
  const start = performance.now();
  const result = draw();
  if (++kept > MOST) {
    performance.clearMeasures();
    kept = 1;
  }
  performance.measure(name, { start, end: performance.now() });
  return result;
}
