// A graph of steps: what is alike put together, layers from left to right, and few crossings. Nothing here draws.

const MANY = 40; // from here on what is alike is put together
const ALIKE = 5; // that many steps with the same neighbours make one group
const SWEEPS = 4;

/** Nodes {id, steps, kind, needs, feeds}, `needs` and `feeds` being ids of nodes.
 *
 * Where there are many, chains become one node, and then nodes with the same neighbours on both sides do. `expanded`
 * holds the ids of groups that are to stay apart. */
export function gather(steps, isGrouped, expanded) {
  let nodes = steps.map((step) => ({
    id: step.id,
    steps: [step],
    kind: "step",
    needs: [...new Set(step.dependencies)],
  }));
  const known = new Set(nodes.map((node) => node.id));
  for (const node of nodes) node.needs = node.needs.filter((each) => known.has(each) && each !== node.id);
  link(nodes);
  if (isGrouped && steps.length > MANY) {
    nodes = merge(nodes, chains(nodes), "chain", expanded);
    nodes = merge(nodes, siblings(nodes), "group", expanded);
  }
  return nodes;
}

/** Whether there are so many that some may be put together. */
export const isMany = (steps) => steps.length > MANY;

function link(nodes) {
  const byId = new Map(nodes.map((node) => [node.id, node]));
  for (const node of nodes) node.feeds = [];
  for (const node of nodes) for (const each of node.needs) byId.get(each).feeds.push(node.id);
}

/** Rows of nodes in which each has the next one only, and is its only need. */
function chains(nodes) {
  const byId = new Map(nodes.map((node) => [node.id, node]));
  const next = (node) => {
    const only = node.feeds.length === 1 ? byId.get(node.feeds[0]) : null;
    return only?.needs.length === 1 ? only : null;
  };
  const found = [];
  const isLater = new Set(nodes.map(next).filter(Boolean));
  for (const node of nodes) {
    if (isLater.has(node)) continue;
    const chain = [node];
    for (let each = next(node); each; each = next(each)) chain.push(each);
    if (chain.length > 1) found.push(chain);
  }
  return found;
}

function siblings(nodes) {
  const byNeighbours = new Map();
  for (const node of nodes) {
    const key = JSON.stringify([node.needs.toSorted(), node.feeds.toSorted()]);
    if (!byNeighbours.has(key)) byNeighbours.set(key, []);
    byNeighbours.get(key).push(node);
  }
  return [...byNeighbours.values()].filter((each) => each.length >= ALIKE);
}

function merge(nodes, sets, kind, expanded) {
  const into = new Map();
  for (const set of sets) {
    const id = `${kind} ${set[0].id}`;
    if (expanded.has(id)) continue;
    const one = { id, kind, steps: set.flatMap((node) => node.steps), needs: [], members: set.length };
    for (const node of set) into.set(node.id, one);
  }
  if (!into.size) return nodes;
  const idOf = (id) => into.get(id)?.id ?? id;
  const made = new Map();
  for (const node of nodes) {
    const one = into.get(node.id) ?? node;
    const needs = node.needs.map(idOf).filter((each) => each !== one.id);
    made.set(one.id, { ...one, needs: [...new Set([...(made.get(one.id)?.needs ?? []), ...needs])] });
  }
  const merged = [...made.values()];
  link(merged);
  return merged;
}

/** Give each node `layer` and `place` in it; returns the layers. A node stands right of all that it needs. */
export function layers(nodes) {
  const byId = new Map(nodes.map((node) => [node.id, node]));
  const left = new Map(nodes.map((node) => [node.id, node.needs.length]));
  const ready = nodes.filter((node) => !node.needs.length);
  for (const node of nodes) node.layer = 0;
  for (let at = 0; at < ready.length; at++) {
    for (const id of ready[at].feeds) {
      const node = byId.get(id);
      node.layer = Math.max(node.layer, ready[at].layer + 1);
      left.set(id, left.get(id) - 1);
      if (left.get(id) === 0) ready.push(node);
    }
  }
  const found = [];
  for (const node of nodes) (found[node.layer] ??= []).push(node); // those in a cycle, which no store should hold, too
  for (let layer = 0; layer < found.length; layer++) found[layer] ??= [];
  for (const layer of found) number(layer);
  for (let sweep = 0; sweep < SWEEPS; sweep++) {
    const isDown = sweep % 2 === 0;
    for (const layer of isDown ? found : found.toReversed()) straighten(layer, byId, isDown ? "needs" : "feeds");
  }
  return found;
}

/** Order a layer by the mean place of its neighbours on one side. */
function straighten(layer, byId, side) {
  for (const node of layer) {
    const places = node[side].map((id) => byId.get(id).share);
    node.wish = places.length ? places.reduce((sum, each) => sum + each, 0) / places.length : node.share;
  }
  layer.sort((a, b) => a.wish - b.wish || a.place - b.place);
  number(layer);
}

function number(layer) {
  layer.forEach((node, place) => {
    node.place = place;
    node.share = (place + 0.5) / layer.length; // comparable between layers of different length
  });
}
