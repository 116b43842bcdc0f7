// The cluster's status, requested once a second while the page is visible, and its history of the last minutes.

import { Cancelled, connection, getJSON, knowMasters, ownScheme } from './api.js';
import { tokenEvents } from './settings.js';

const every = 1000; // ms
const kept = 300; // samples, so five minutes

/** status is the last known status. It fires "change" after every request, failed or not. */
export const status = Object.assign(new EventTarget(), {
  cluster: null, // response of GET /v1/cluster
  problem: null, // why the last request failed
  samples: [], // {time, records, height, stored, storages: {id: height}}, the oldest first
  heads: new Map(), // tree roots reported by masters, by tree size
});

let timer = 0;
let running = null; // the request in flight

/** ask sends a request, or waits for the one in flight. */
function ask() {
  running ??= question().finally(() => {
    running = null;
  });
  return running;
}

async function question() {
  clearTimeout(timer);
  try {
    take(await getJSON('/v1/cluster', { timeout: 4000 }));
  } catch (error) {
    if (!(error instanceof Cancelled)) status.problem = error;
  }
  status.dispatchEvent(new Event('change'));
  if (!document.hidden) timer = setTimeout(ask, every);
}

function take(cluster) {
  status.cluster = cluster;
  status.problem = null;
  for (const m of cluster.masters) m.url = ownScheme(m.url, cluster.tls);
  knowMasters(cluster.masters.map((m) => m.url));
  rememberHead(cluster.head, connection.master);
  status.samples.push({
    time: Date.now(),
    records: cluster.records ?? cluster.head.size - cluster.head.height + cluster.buffer.records,
    height: cluster.head.height,
    stored: cluster.stored,
    storages: Object.fromEntries(cluster.storages.map((s) => [s.id, s.height])),
  });
  if (status.samples.length > kept) status.samples.shift();
}

function rememberHead(head, from) {
  status.heads.set(head.size, { root: head.root, from });
  if (status.heads.size > kept) status.heads.delete(status.heads.keys().next().value);
}

/** rateAt returns the appends per second before a sample, never below zero. */
export function rateAt(i) {
  const [before, now] = [status.samples[i - 1], status.samples[i]];
  if (!before) return 0;
  return Math.max(0, ((now.records - before.records) * 1000) / Math.max(now.time - before.time, 1));
}

/** refresh sends a new request at once, since the result of the one in flight may be older than the caller's data. */
export async function refresh() {
  await running;
  await ask();
}

/** startStatus starts the requests. A hidden page sends none. */
export function startStatus() {
  document.addEventListener('visibilitychange', () => !document.hidden && ask());
  tokenEvents.addEventListener('change', () => {
    status.cluster = null;
    ask();
  });
  ask();
}
