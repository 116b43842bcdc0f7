// Integrity: the state of the storage nodes, findings and repairs, and the confirmation of lost blocks.

import { Cancelled, getJSON, segment, sendJSON } from '../api.js';
import { bytes, hasText, number, t } from '../i18n.js';
import { message, ranges } from '../messages.js';
import { href } from '../router.js';
import { status } from '../status.js';
import { toast } from '../ui/announce.js';
import { confirm } from '../ui/dialog.js';
import { h, replace } from '../ui/dom.js';
import { actions, button, empty, facts, head, lead, panel, problemBox, replaceKeepingFocus, spinner, stateBadge, stat,
  time } from '../ui/parts.js';
import { hostOf } from '../ui/picture.js';

export function integrity({ signal }) {
  const place = h('div', { class: 'stack' });
  const { node: result, act } = actions();
  replace(place, spinner());
  const follow = follower(place, act, signal);
  status.addEventListener('change', follow, { signal });
  follow();
  return { title: t('nav.integrity'), node: [head(t('nav.integrity')), lead(t('integrity.lead')), result, place] };
}

/** follower repeats the request with every status. It redraws only changed parts, so that the focus is kept. */
function follower(place, act, signal) {
  let [asking, drawn] = [false, ''];
  const doing = (work) => act(async () => {
    await work();
    await ask();
  });
  const ask = async () => {
    if (asking) return;
    asking = true;
    try {
      const now = await getJSON('/v1/cluster/integrity', { signal });
      const text = JSON.stringify(now);
      if (text !== drawn) replaceKeepingFocus(place, parts(now, doing, signal));
      drawn = text;
    } catch (error) {
      if (!(error instanceof Cancelled) && !drawn) replace(place, problemBox(error, ask));
    }
    asking = false;
  };
  return ask;
}

const parts = (now, act, signal) => [
  lostPanel(now, act, signal),
  h('section', { 'aria-label': t('integrity.nodes') }, h('h2', { class: 'unseen' }, t('integrity.nodes')),
    now.nodes.length
      ? h('div', { class: 'cards' }, now.nodes.map((one) => nodeCard(one, act, signal))) : empty(
        t('picture.noStorages'))),
  totalsPanel(now.totals),
  eventsPanel(now.events),
];

/** lostPanel is shown only if there are lost blocks, which an operator must confirm. */
function lostPanel(now, act, signal) {
  const confirmed =
    new Set(now.confirmed.flatMap((r) => Array.from({ length: Math.min(r.to - r.from, 1000) }, (_, i) => r.from + i)));
  const open = now.lost.flatMap((r) => Array.from({ length: Math.min(r.to - r.from, 1000) },
    (_, i) => r.from + i)).filter((b) => !confirmed.has(b));
  if (now.lost.length === 0) return null;
  const node = panel(t('integrity.lost'), h('p', {}, t('integrity.lost.text', { blocks: ranges(now.lost) })),
    now.confirmed.length
      ? h('p', { class: 'hint' }, t('integrity.confirmed', { blocks: ranges(now.confirmed) })) : null,
    h('div', { class: 'form-do' }, open.map((block) =>
      button(t('integrity.confirm', { block }), () => act(() => confirmLost(block, signal)),
        { kind: 'danger', 'data-keep': `lost-${block}` }))));
  node.classList.add('alarm');
  return node;
}

async function confirmLost(block, signal) {
  if (!(await confirm(t('integrity.confirm', { block }), t('integrity.confirm.text', { block }),
    t('integrity.confirm.yes')))) return;
  await sendJSON('POST', '/v1/cluster/integrity/confirm-lost', { block }, { signal });
}

function nodeCard(one, act, signal) {
  const name = hostOf(one.url, one.id);
  const check = async () => {
    await sendJSON('POST', `/v1/storages/${segment(one.id)}/check`, undefined, { signal });
    toast(t('integrity.asked', { node: name }));
  };
  return h('article', { class: `panel card state-${one.live || one.state === 'invalid' ? one.state : 'gone'}` },
    h('div', { class: 'card-head' }, h('h3', {}, name),
      stateBadge(one.live || one.state === 'invalid' ? one.state : 'gone')),
    one.cause && h('p', { class: 'cause' }, message(one.cause_coded, one.cause)),
    facts(
      [t('node.height'), number(one.height)],
      [t('integrity.checked'), one.checked ? time(one.checked) : t('integrity.never')],
      one.bad?.length ? [t('integrity.bad'), ranges(one.bad)] : null,
      one.due && [t('integrity.due'), message(one.due_coded, one.due)]),
    one.task && taskOf(one.task),
    button(t('integrity.check'), () => act(check),
      { 'aria-label': t('integrity.checkNode', { node: name }), 'data-keep': `check-${one.id}`, disabled: !one.live }));
}

/** taskOf shows a running check or repair. */
function taskOf(task) {
  const [done, all] = task.total ? [task.bytes, task.total] : [task.blocks, task.height];
  const text = t(`integrity.task.${task.kind}`, { blocks: task.blocks, size: bytes(task.bytes) });
  return h('div', { class: 'task' }, h('span', {}, text),
    h('progress', { value: String(Math.min(done, all)), max: String(all || 1), 'aria-label': text }));
}

const totalsPanel = (n) =>
  panel(t('integrity.totals'), h('dl', { class: 'stats' },
    stat(t('integrity.checks'), n.checks, bytes(n.checked_bytes)),
    stat(t('integrity.badBlocks'), n.bad_blocks),
    stat(t('integrity.repairs'), n.repairs, n.failed_repairs ? t('integrity.failed', { n: n.failed_repairs }) : null),
    stat(t('integrity.repaired'), n.repaired_blocks, bytes(n.repaired_bytes))));

/** eventsPanel shows the integrity log, the newest event first. */
function eventsPanel(events) {
  const list = events.length
    ? h('ol', { class: 'events' }, events.map(event))
    : empty(t('integrity.quiet'), h('p', {}, t('integrity.quiet.text')));
  return panel(t('integrity.events'), list);
}

function event(e) {
  const what = [message(e.cause_coded, e.cause) ||
    (e.ranges?.length && t('integrity.blocks', { blocks: ranges(e.ranges) })), e.bytes && bytes(e.bytes), e.millis &&
      t('integrity.millis', { n: e.millis })];
  return h('li', { class: `event event-${e.kind}` },
    h('div', { class: 'event-head' }, h('span', { class: 'event-kind' }, t(`event.${e.kind}`)), e.url &&
      h('span', { class: 'mono' }, hostOf(e.url, e.node)), time(e.time)),
    h('p', {}, what.filter(Boolean).join(' · ')),
    e.findings?.length
      ? h('details', { class: 'plain', 'data-keep': `event-${e.number}` },
        h('summary', {}, t('integrity.findings', { n: e.findings.length })),
          h('ul', {}, e.findings.map(finding))) : null);
}

const finding = (f) =>
  // A finding about a file has no block.
  h('li', {}, f.what !== 'file' && h('a', { href: href(`block/${f.block}`) }, t('block.title', { number: f.block })),
    ' ', findingText(f.what), ' ', h('code', {}, f.what),
    f.detail && ` — ${message(f.detail_coded, f.detail)}`);

const findingText = (what) => (hasText(`finding.${what}`) ? t(`finding.${what}`) : '');
