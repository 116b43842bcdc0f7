// Dialogs. The browser's dialog element keeps the focus inside, closes with Escape, and restores the focus.

import { t } from '../i18n.js';
import { h, newId } from './dom.js';

/** dialog shows a dialog. It resolves to the value that a button passes to close, or to undefined for Escape. */
export function dialog(title, build) {
  return new Promise((resolve) => {
    const id = newId('dialog');
    let answer;
    const node = h('dialog',
      { class: 'dialog', 'aria-labelledby': id, onclose: () => (node.remove(), resolve(answer)) });
    const close = (value) => {
      answer = value;
      node.close();
    };
    node.append(h('h2', { id }, title), ...[build(close)].flat());
    document.body.append(node);
    node.showModal();
  });
}

/** confirm asks for a confirmation, and resolves to true if it is given. */
export const confirm = (title, text, yes, kind = 'danger') =>
  dialog(title, (close) => [
    h('p', {}, text),
    h('div', { class: 'dialog-do' },
      h('button', { type: 'button', class: 'button', onclick: () => close(false) }, t('cancel')),
      h('button', { type: 'button', class: `button ${kind}`, onclick: () => close(true) }, yes)),
  ]);
