// Announces changes to screen readers, politely, so that speech is not interrupted.

import { h } from './dom.js';

const region = h('div', { class: 'unseen', role: 'status', 'aria-live': 'polite' });
const toasts = h('div', { class: 'toasts', 'aria-hidden': 'true' });

/** announcer returns the two live regions at the end of the page. */
export const announcer = [region, toasts];

/** announce sends a text to screen readers. */
export function announce(text) {
  region.textContent = '';
  requestAnimationFrame(() => {
    region.textContent = text;
  });
}

/** toast announces a text and shows it briefly. */
export function toast(text) {
  announce(text);
  const note = h('div', { class: 'toast' }, text);
  toasts.append(note);
  setTimeout(() => note.remove(), 3500);
}
