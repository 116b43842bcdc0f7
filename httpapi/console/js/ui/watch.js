// Announces changes of the cluster while another page is shown.

import { connection } from '../api.js';
import { t } from '../i18n.js';
import { status } from '../status.js';
import { announce, toast } from './announce.js';
import { hostOf } from './picture.js';

let before = null;
let master = connection.master;

/** changes returns sentences that describe the changes. */
function changes(now) {
  const told = [];
  if (now.leader && before.leader && now.leader !== before.leader) {
    const leader = now.masters.find((m) => m.id === now.leader);
    told.push(t('watch.leader', { master: hostOf(leader?.url, now.leader), term: now.term }));
  }
  for (const one of now.storages) {
    const was = before.storages.find((b) => b.id === one.id);
    if (was &&
      was.state !== one.state) told.push(t('watch.storage',
        { node: hostOf(one.url, one.id), state: t(`state.${one.state}`) }));
    if (was?.live && !one.live) told.push(t('watch.gone', { node: hostOf(one.url, one.id) }));
  }
  return told;
}

/** watchCluster announces a new leader, a changed state of a storage node, and a change of the master in use. */
export function watchCluster() {
  status.addEventListener('change', () => {
    if (!status.cluster) return;
    const told = before ? changes(status.cluster) : [];
    if (told.length) announce(told.join(' '));
    before = status.cluster;
  });
  connection.addEventListener('change', () => {
    if (connection.lost) toast(t('connection.lost'));
    else if (connection.master !== master) toast(t('connection.moved', { master: hostOf(connection.master) }));
    master = connection.master;
  });
}
