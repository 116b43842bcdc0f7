// What changes without the reader's doing is told to screen readers here; politely, so that nobody is cut short.

import { h } from './dom.js';

const region = h('div', { class: 'unseen', role: 'status', 'aria-live': 'polite' });
const toasts = h('div', { class: 'toasts', 'aria-hidden': 'true' });

/** announcer is the two places, for the end of the page. */
export const announcer = [region, toasts];

/** announce tells a text to who listens. */
export function announce(text) {
  region.textContent = '';
  requestAnimationFrame(() => {
    region.textContent = text;
  });
}

/** toast tells a text to who listens, and shows it for a moment. */
export function toast(text) {
  announce(text);
  const note = h('div', { class: 'toast' }, text);
  toasts.append(note);
  setTimeout(() => note.remove(), 3500);
}
