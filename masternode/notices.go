package masternode

import (
	"cmp"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/masternode/leader"
	"github.com/chainstore/chainstore/wire"
)

// addNotices adds notices, as text and as codes.
func addNotices(texts *[]string, coded *[]wire.Message, list ...wire.Message) {
	*texts, *coded = append(*texts, wire.Texts(list)...), append(*coded, list...)
}

// noticeList is a list of notices that is being made.
type noticeList []wire.Message

func (l *noticeList) add(code string, args wire.Args) {
	*l = append(*l, wire.Message{Code: code, Args: args})
}

// addLog adds the notices about the log.
func (l *noticeList) addLog(n *Node, leading leader.Status) {
	*l = append(*l, n.flagNotices()...)
	if keys, _, _ := n.logOf(); keys.Origin == "" {
		if len(leading.NoLogKeys) > 0 {
			l.add(wire.CodeLogKeyWaits, wire.Args{"nodes": leading.NoLogKeys})
		}
		return // else the leader is about to make it
	}
	var waits *checkpointWaitsError
	switch _, err := n.checkpointHere(); {
	case errors.As(err, &waits):
		*l = append(*l, waits.message())
	case err != nil:
		l.add(wire.CodeNoCheckpoint, wire.Args{"detail": err.Error()})
	}
}

// flagNotices are about flags of this master: those that have no effect on the group or its log, and the OIDC issuer.
func (n *Node) flagNotices() (l noticeList) {
	l.addSettings(n)
	if n.cfg.Issuer != nil {
		if why := n.cfg.Issuer(); why != "" {
			l.add(wire.CodeIssuer, wire.Args{"detail": why})
		}
	}
	keys, _, _ := n.logOf()
	if keys.Origin == "" {
		return l
	}
	c := &n.cfg.Log
	if asked := cmp.Or(c.Origin, keys.Origin); asked != keys.Origin {
		l.add(wire.CodeOriginIgnored, wire.Args{"asked": asked, "origin": keys.Origin})
	}
	if c.Key == nil {
		return l
	}
	known, ok := keys.Known(c.Key.Public())
	switch {
	case c.Key.Origin() != keys.Origin:
		l.add(wire.CodeCheckpointKeyForeign, wire.Args{"asked": c.Key.Origin(), "origin": keys.Origin})
	case ok && !known.Signs():
		l.add(wire.CodeCheckpointKeyRetired, wire.Args{"key": known.ID})
	case !ok && !n.leader.Leads():
		l.add(wire.CodeCheckpointKeyWaits, nil)
	}
	return l
}

// addSettings adds notices about flags of this master that name other settings than the group has. A flag that was not
// given has no notice.
func (l *noticeList) addSettings(n *Node) {
	var group masterfsm.Settings
	var level uint64
	n.cfg.Ledger.Read(func(s *masterfsm.State) { group, level = s.Settings(), s.Level() })
	if level < masterfsm.LevelSettings {
		return // this master's settings become those of the group when it leads
	}
	values := group.List()
	for i, own := range n.cfg.Settings.List() {
		if own != values[i] && slices.Contains(n.cfg.SettingsGiven, own.Name) {
			l.add(wire.CodeSettingIgnored,
				wire.Args{"setting": own.Name, "asked": own.Text(), "value": values[i].Text()})
		}
	}
}

// addLeader adds the notices about the group's protocol level, and about workers that obey a later epoch.
func (l *noticeList) addLeader(leading leader.Status, level uint64) {
	if len(leading.Older) > 0 {
		next := uint64(masterfsm.ProtocolLevel)
		l.add(wire.CodeLevelWaits, wire.Args{"level": level, "next": next, "nodes": leading.Older})
		for _, id := range slices.Sorted(maps.Keys(leading.Levels)) {
			l.add(wire.CodeOlderMaster, wire.Args{"node": id, "level": leading.Levels[id], "next": next})
		}
	}
	code := wire.CodeLaterEpoch
	if leading.Suspended {
		code = wire.CodeLaterEpochSuspended
	}
	for _, id := range slices.Sorted(maps.Keys(leading.Later)) {
		l.add(code, wire.Args{"node": id, "epoch": leading.Later[id], "ours": leading.Epoch})
	}
}

// addClocks adds the notices about the clocks of the masters and the time that records get.
func (l *noticeList) addClocks(c leader.Clocks) {
	seconds := func(d time.Duration) uint64 { return uint64(d.Abs() / time.Second) }
	for _, w := range c.Wrong {
		code := wire.CodeClockAhead
		if w.By < 0 {
			code = wire.CodeClockBehind
		}
		l.add(code, wire.Args{"node": w.Master, "seconds": seconds(w.By)})
	}
	if c.Disagree() {
		l.add(wire.CodeClocksDisagree, wire.Args{"count": uint64(c.Compared)})
	}
	switch ahead, behind := c.TimeOff(); {
	case ahead > 0:
		l.add(wire.CodeTimeAhead, wire.Args{"seconds": seconds(ahead)})
	case behind > 0:
		l.add(wire.CodeTimeBehind, wire.Args{"seconds": seconds(behind)})
	}
}

// addDisks adds the notices about disks that are full, or nearly.
func (l *noticeList) addDisks(leading leader.Status) {
	codes := map[wire.DiskState]string{wire.DiskLow: wire.CodeDiskLow, wire.DiskFull: wire.CodeDiskFull}
	for _, id := range slices.Sorted(maps.Keys(leading.Disks)) {
		disk := leading.Disks[id]
		if code := codes[disk.State]; code != "" {
			l.add(code, wire.Args{"node": id, "mib": disk.Free >> 20})
		}
	}
	if len(leading.Full) > 0 {
		l.add(wire.CodeMastersFull, wire.Args{"nodes": leading.Full})
	}
}

// addAtRest adds a notice about each master that has at-rest keys and files in clear.
func (l *noticeList) addAtRest(list map[string]*wire.AtRest) {
	for _, id := range slices.Sorted(maps.Keys(list)) {
		if plain := list[id].Plain; plain > 0 {
			l.add(wire.CodeAtRestPlain, wire.Args{"node": id, "count": plain})
		}
	}
}

// certificateSoon is how long before the end of a certificate there is a notice.
const certificateSoon = 14 * 24 * time.Hour

// addCertificates adds notices about certificates that end soon or have ended, whose new files are not used, or that
// are accepted although they are out of their time. Such a node is named by each node that accepts it, until the node
// itself says that it has another certificate.
func (l *noticeList) addCertificates(list map[string]*wire.Certificate, now time.Time) {
	serials := map[string]string{}
	for _, c := range list {
		serials[c.Identity] = c.Serial
	}
	for _, id := range slices.Sorted(maps.Keys(list)) {
		c := list[id]
		switch left := time.UnixMilli(int64(c.NotAfter)).Sub(now); {
		case left <= 0:
			l.add(wire.CodeCertificateEnded, wire.Args{"node": id})
		case left < certificateSoon:
			l.add(wire.CodeCertificateEnds, wire.Args{"node": id, "hours": uint64(left / time.Hour)})
		}
		if c.Error != "" {
			l.add(wire.CodeCertificateFiles, wire.Args{"node": id, "detail": c.Error})
		}
		for _, g := range c.Graces {
			if serial, known := serials[g.Identity]; known && serial != g.Serial {
				continue
			}
			args := wire.Args{"node": id, "identity": g.Identity}
			if g.Left == 0 {
				l.add(wire.CodeCertificateRefused, args)
				continue
			}
			args["hours"] = g.Left / 3600
			l.add(wire.CodeCertificateGrace, args)
		}
	}
}

// addSecrets adds notices about files of secrets that are not used, about nodes that prove the old value of a secret,
// and about nodes that prove one that others do not accept.
func (l *noticeList) addSecrets(list map[string][]wire.SecretUse) {
	var all []wire.SecretUse
	for _, uses := range list {
		all = append(all, uses...)
	}
	old := map[string][]string{} // by secret
	for _, id := range slices.Sorted(maps.Keys(list)) {
		for _, u := range list[id] {
			if u.Error != "" {
				l.add(wire.CodeSecretFile, wire.Args{"node": id, "secret": u.Secret, "detail": u.Error})
			}
			if u.UsesOld(all) {
				old[u.Secret] = append(old[u.Secret], id)
			}
			var refuse []string
			for _, other := range slices.Sorted(maps.Keys(list)) {
				if slices.ContainsFunc(list[other], func(o wire.SecretUse) bool {
					return o.Secret == u.Secret && !o.Accepts(u.Current)
				}) {
					refuse = append(refuse, other)
				}
			}
			if len(refuse) > 0 {
				l.add(wire.CodeSecretRefused, wire.Args{"node": id, "secret": u.Secret, "nodes": refuse})
			}
		}
	}
	for _, secret := range slices.Sorted(maps.Keys(old)) {
		l.add(wire.CodeSecretOld, wire.Args{"secret": secret, "nodes": old[secret]})
	}
}

// addFlags adds notices about flags that only a part of the masters has.
func (l *noticeList) addFlags(flags map[string]wire.AccessFlags) {
	for _, flag := range []struct {
		name string
		of   func(wire.AccessFlags) bool
	}{
		{"private-log", func(f wire.AccessFlags) bool { return f.PrivateLog }},
		{"open-registration", func(f wire.AccessFlags) bool { return f.OpenRegistration }},
		{"original-api", func(f wire.AccessFlags) bool { return f.OriginalAPI }},
	} {
		var with, without []string
		for _, id := range slices.Sorted(maps.Keys(flags)) {
			switch {
			case !flags[id].Known:
			case flag.of(flags[id]):
				with = append(with, id)
			default:
				without = append(without, id)
			}
		}
		if len(with) > 0 && len(without) > 0 {
			l.add(wire.CodeFlagDiffers, wire.Args{"flag": flag.name, "with": with, "without": without})
		}
	}
}

// addWitnesses adds the notices about the witnesses.
func (l *noticeList) addWitnesses(list []wire.Witness, quorum int, leads bool) {
	well := len(list)
	for i := range list {
		if w := &list[i]; w.Error != "" {
			args := wire.Args{"name": w.Name, "url": w.URL, "state": string(w.State), "detail": w.Error}
			l.add(wire.CodeWitnessDown, args)
			well--
		}
	}
	if (len(list) > 0 || leads) && well < quorum { // a leader may have been started without witnesses
		l.add(wire.CodeTooFewWitnesses, wire.Args{"count": uint64(well), "needed": uint64(quorum)})
	}
}

// abortedMany is how many checks of a node in a row must end early before there is a notice.
const abortedMany = 3

// notChecked reports whether the last checks of a storage node ended early, so that it does not count as checked. From
// protocol level 3 on the table remembers it.
func notChecked(aborted map[string]wire.Aborted, n *masterfsm.Storage) bool {
	return aborted[n.ID].Count >= abortedMany || waitsForCheck(n)
}

// waitsForCheck reports whether the table says that the checks of a storage node did not end.
func waitsForCheck(n *masterfsm.Storage) bool {
	return n.NotChecked() && (n.Cause.Code == wire.CodeCheckAborted || n.Cause.Code == wire.CodeCheckOverdue)
}

// addAborted adds a notice if a node cannot be checked. A leader that has not tried yet takes it from the table.
func (l *noticeList) addAborted(n *masterfsm.Storage, aborted map[string]wire.Aborted) {
	a, known := aborted[n.ID]
	if !known && waitsForCheck(n) {
		args := wire.Args{
			"node": n.ID, "count": uint64(abortedMany), "blocks": n.Cause.Args["blocks"],
			"height": n.Cause.Args["height"], "detail": n.Cause.Args["detail"],
		}
		if n.Cause.Code == wire.CodeCheckOverdue {
			args["detail"] = n.Cause.Text()
		}
		l.add(wire.CodeChecksEndEarly, args)
	} else if notChecked(aborted, n) {
		l.add(wire.CodeChecksEndEarly, wire.Args{
			"node": n.ID, "count": uint64(a.Count), "blocks": a.Blocks, "height": a.Height, "detail": a.Error,
		})
	}
}

// addFailedSyncs adds the notices about failed syncs of data folders.
func (l *noticeList) addFailedSyncs(list []masterfsm.FailedSync) {
	for _, f := range list {
		l.add(wire.CodeFailedSync, wire.Args{"node": f.ID, "detail": f.Detail})
	}
}

// addTLS adds the notices about plain text while the group moves to TLS.
func (l *noticeList) addTLS(step wire.TLSStep, leading leader.Status) {
	if !step.Mixed() {
		return
	}
	l.add(wire.CodeTLSPlain, wire.Args{"step": step.Name()})
	for _, id := range slices.Sorted(maps.Keys(leading.TLS)) {
		if step == wire.TLSPrefer && !leading.TLS[id].Secured && leading.Certificates[id] != nil {
			l.add(wire.CodeTLSNotUsed, wire.Args{"node": id})
		}
	}
}

// addLost adds a notice about lost blocks, if there are any.
func (l *noticeList) addLost(lost []chain.Range) {
	if len(lost) > 0 {
		shown := lost[:min(len(lost), wire.MaxMessageRanges)]
		l.add(wire.CodeLossUnconfirmed, wire.Args{"blocks": chain.CountBlocks(lost), "ranges": shown})
	}
}

// addRefusals adds the notices about nodes that answer and take no part. refusals are their codes, by node id.
func (l *noticeList) addRefusals(c *wire.Cluster, refusals map[string]string) {
	add := func(id, url string) {
		switch code := refusals[id]; code {
		case wire.CodeStaleFolder:
			l.add(code, wire.Args{"node": id})
		case wire.CodeOtherNodeAtURL:
			l.add(code, wire.Args{"node": id, "url": url})
		}
	}
	for i := range c.Masters {
		add(c.Masters[i].ID, c.Masters[i].URL)
	}
	for i := range c.Storages {
		add(c.Storages[i].ID, c.Storages[i].URL)
	}
	for i := range c.Miners {
		add(c.Miners[i].ID, c.Miners[i].URL)
	}
}

// mostSpecific removes the notices that a node does not answer where another notice says why. Their advice to start the
// node would contradict that of the other.
func mostSpecific(list noticeList) noticeList {
	why := map[any]bool{}
	for _, m := range list {
		switch m.Code {
		case wire.CodeFailedSync, wire.CodeStaleFolder, wire.CodeOtherNodeAtURL:
			why[m.Args["node"]] = true
		}
	}
	return slices.DeleteFunc(slices.Clone(list), func(m wire.Message) bool {
		return (m.Code == wire.CodeStorageSilent || m.Code == wire.CodeMasterSilent) && why[m.Args["node"]]
	})
}
