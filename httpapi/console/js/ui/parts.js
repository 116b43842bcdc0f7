// Common parts of all pages.

import { Cancelled } from '../api.js';
import { ago, moment, number, t } from '../i18n.js';
import { toast } from './announce.js';
import { h, newId, replace, update } from './dom.js';
import { icon } from './icons.js';
import { session } from '../settings.js';
import { issuer } from '../signin.js';
import { askForToken, signInButton } from './tokens.js';

/** panel is a part of a page with its own heading. */
export function panel(title, ...children) {
  const id = newId('panel');
  return h('section', { class: 'panel', 'aria-labelledby': id }, h('h2', { id }, title), children);
}

/** head is a page's heading, which gets the focus when the page is opened, with elements beside it. */
export const head = (title, ...beside) =>
  h('div', { class: 'head' }, h('h1', { tabindex: '-1' }, title), beside.length
    ? h('div', { class: 'head-beside' }, beside) : null);

/** lead is the sentence under a heading. */
export const lead = (text) => h('p', { class: 'lead' }, text);

/** button creates a button; kind is "primary", "quiet" or "danger". */
export const button = (text, onclick, { kind = '', type = 'button', glyph, ...props } = {}) =>
  h('button', { type, class: `button ${kind}`, onclick, ...props }, glyph ? icon(glyph) : null, text
    ? h('span', {}, text) : null);

/** field is a labelled control. */
export function field(label, control, hint) {
  const id = newId('field');
  control.id = id;
  const hintId = hint && `${id}-hint`;
  if (hint) control.setAttribute('aria-describedby', hintId);
  return h('div', { class: 'field' }, h('label', { for: id }, label), control, hint
    ? h('p', { class: 'hint', id: hintId }, hint) : null);
}

/** checkbox is a labelled checkbox: {node, input}. */
export function checkbox(label, checked = false) {
  const input = h('input', { type: 'checkbox', checked });
  return { node: h('label', { class: 'checkbox' }, input, h('span', {}, label)), input };
}

/** select is a drop-down list; options are [value, text]. */
export const select = (options, chosen, props = {}) =>
  h('select', props, options.map(([value, text]) => h('option', { value, selected: value === chosen }, text)));

/** copyButton copies a text. If the page has no access to the clipboard, it selects the text for the user. */
export function copyButton(text, label) {
  return h('button', {
    type: 'button', class: 'button quiet small', 'aria-label': label, title: label,
    onclick: async (event) => {
      const at = event.currentTarget;
      try {
        await navigator.clipboard.writeText(text);
        toast(t('copied'));
      } catch {
        const shown = at.parentElement.querySelector('[data-copy]');
        if (shown) getSelection().selectAllChildren(shown);
        toast(t('copy.byHand'));
      }
    },
  }, icon('copy'));
}

/** short shortens a hash to its start and its last four digits. */
export const short = (hash, letters = 10) =>
  (hash.length > 2 * letters ? `${hash.slice(0, letters)}…${hash.slice(-4)}` : hash);

/** hash shows a hash, in full if there is room, with a button that copies it. */
export const hash = (text, { whole = false, letters } = {}) =>
  h('span', { class: 'hash' }, h('code', { title: text, 'data-copy': true }, whole ? text : short(text, letters)),
    copyButton(text, t('copy.hash')));

/** time shows Unix milliseconds as a relative time, with the exact time as a tooltip. */
export const time = (ms) =>
  ms ? h('time', { datetime: new Date(ms).toISOString(), title: moment(ms), 'data-ago': ms }, ago(ms)) : h('span',
    { class: 'faint' }, '—');

/** refreshTimes updates all relative times. */
export function refreshTimes() {
  for (const node of document.querySelectorAll('[data-ago]')) update(node, ago(Number(node.dataset.ago)));
}

/** stateBadge shows the state of a storage node or master. Each state has its own sign, not only its own colour. */
export const stateBadge = (state) => h('span', { class: `badge state-${state}` }, t(`state.${state}`));

/** facts is a list of names and values. */
export const facts = (...pairs) =>
  h('dl', { class: 'facts' },
    pairs.filter(Boolean).map(([name, value]) => h('div', {}, h('dt', {}, name), h('dd', {}, value))));

/**
 * table has a caption for screen readers, headings, and rows of cells. A column whose heading is {text, right} is
 * aligned to the right.
 */
export function table(caption, headings, rows, props = {}) {
  const columns = headings.map((c) => (typeof c === 'object' ? c : { text: c }));
  return h('div', { class: 'table', tabindex: '0', role: 'region', 'aria-label': caption, ...props },
    h('table', {},
      h('caption', { class: 'unseen' }, caption),
      h('thead', {}, h('tr', {}, columns.map((c) => h('th', { scope: 'col', class: c.right && 'right' }, c.text)))),
      h('tbody', {}, rows.map((cells) => row(cells, columns)))));
}

/** row is a row of a table. */
export const row = (cells, columns = []) =>
  h('tr', {}, cells.map((cell, i) => h('td', { class: columns[i]?.right && 'right' }, cell)));

/** empty is shown in place of an empty list, with a suggestion what to do. */
export const empty = (title, ...more) => h('div', { class: 'empty' }, h('p', { class: 'empty-title' }, title), more);

/** spinner is shown while a request is in progress. */
export const spinner = () => h('p', { class: 'loading' }, t('loading'));

/** explain describes a problem of a known kind for the user, followed by the master's text. */
export function explain(problem) {
  if (problem.missing) return t('problem.missing');
  const known = {
    'no-answer': 'problem.noAnswer', 'no-any-token': 'problem.needsToken', 'no-project-token': 'problem.needsProject',
    'no-admin-token': 'problem.needsAdmin', unauthorized: 'problem.unauthorized', forbidden: 'problem.forbidden',
    'not-found': 'problem.notFound', 'seal-index': 'problem.sealIndex', 'not-mined': 'problem.notMined',
      'not-sealed': 'problem.notSealed',
    'name-taken': 'problem.nameTaken', 'too-large': 'problem.tooLarge', quota: 'problem.quota',
      'slow-body': 'problem.slowBody', 'too-many-requests': 'problem.tooManyRequests',
      'no-leader': 'problem.noLeader',
    'backlog-full': 'problem.backlog', unavailable: 'problem.unavailable', lost: 'problem.lost',
      'empty-body': 'problem.emptyBody',
    'unknown-outcome': 'problem.unknownOutcome', 'stale-folder': 'problem.staleFolder',
  }[problem.name];
  return known ? t(known, { seconds: problem.retryAfter || 1 }) : problem.title ||
    t('problem.other', { status: problem.status ?? 0 });
}

/** problemBox shows a problem and its remedy: enter a token, or try again. */
export function problemBox(problem, retry) {
  if (!('status' in problem)) throw problem; // a bug of the console: the browser logs it
  const slot = problem.name === 'no-admin-token' ? 'admin' : 'project';
  const needsToken = problem.status === 401 || problem.name === 'forbidden';
  return h('div', { class: 'problem', role: 'alert' },
    icon('warn'),
    h('div', {}, h('p', { class: 'problem-title' }, explain(problem)), problem.detail &&
      h('p', { class: 'problem-detail' }, problem.detail)),
    h('div', { class: 'problem-do' },
      needsToken && issuer.available && !session() ? signInButton() : null,
      needsToken ? button(t('token.enter'), () => askForToken(slot)) : null,
      retry && !problem.missing ? button(t('again'), retry) : null));
}

/** load fills an element from a request: first with a spinner, then with the result or the problem. */
export async function load(place, ask, show) {
  replace(place, spinner());
  try {
    replace(place, show(await ask()));
  } catch (error) {
    if (error instanceof Cancelled) return;
    replace(place, problemBox(error, () => load(place, ask, show)));
  }
}

/** replaceKeepingFocus replaces the content, and restores the focus and the open details. */
export function replaceKeepingFocus(place, nodes) {
  const focused = place.contains(document.activeElement) ? document.activeElement.dataset.keep : null;
  const open = new Set([...place.querySelectorAll('details[open]')].map((d) => d.dataset.keep));
  replace(place, nodes);
  for (const details of place.querySelectorAll('details')) details.open = open.has(details.dataset.keep);
  if (focused) place.querySelector(`[data-keep="${CSS.escape(focused)}"]`)?.focus();
}

/** keepFocus moves the focus to an element if the one that had it is gone, as the button of a removed row is. */
export function keepFocus(place) {
  if (!document.activeElement || document.activeElement === document.body) place.focus({ preventScroll: true });
}

/** actions runs what buttons do: {node, act}. A problem is shown in node until the next one is pressed. */
export function actions() {
  const node = h('div', { 'aria-live': 'polite' });
  const act = async (work) => {
    replace(node);
    try {
      await work();
    } catch (error) {
      if (!(error instanceof Cancelled)) replace(node, problemBox(error));
    }
  };
  return { node, act };
}

/** commandLine shows a text to copy, with its line breaks. */
export const commandLine = (text, label) =>
  h('div', { class: 'command' }, h('pre', { 'data-copy': true }, text), copyButton(text, label));

/** form is a form with an asynchronous submit. Its button is disabled meanwhile, and a problem is shown below it. */
export function form(children, submit, work) {
  const result = h('div', { class: 'form-result' });
  const node = h('form', {
    class: 'form', novalidate: false,
    onsubmit: async (event) => {
      event.preventDefault();
      submit.disabled = true;
      replace(result);
      try {
        replace(result, await work());
      } catch (error) {
        if (!(error instanceof Cancelled)) replace(result, problemBox(error));
      } finally {
        submit.disabled = false;
      }
    },
  }, children, h('div', { class: 'form-do' }, submit), result);
  return node;
}

/** stat is a large number. */
export const stat = (name, value, more) =>
  h('div', { class: 'stat' }, h('dt', {}, name), h('dd', {}, typeof value === 'number' ? number(value) : value, more &&
    h('small', {}, more)));
