package masterfsm

import (
	"strconv"
	"strings"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/wire/trail"
)

// recoveryTrail is what the record of a recovery says, beside its summary. A recovery may separate the audit trail from
// the table: it drops records whose acts have happened, and adopts records of acts that the table does not have.
type recoveryTrail struct {
	by           originated
	before       Group
	dropped      int    // records of the audit trail that were dropped
	renamed      uint32 // project that had the name of the audit trail, 0 for none
	logForgotten bool
	isolated     bool
}

// By sets the member that is recovered and the salt of the recovery's record. The operator at its machine is the actor.
func (r *Recovery) By(member string, salt [chain.SaltSize]byte) {
	r.trail.by.Actor = trail.Actor{Kind: trail.ByOperator, Name: "recovery"}
	r.trail.by.Source, r.trail.by.salt = trail.Source{Member: member}, salt
}

// record records the recovery wherever the state has an audit trail, at any level. Open intents end here: raft's
// configuration and the terms of the old group, which would tell their outcome, are gone.
func (r *Recovery) record() {
	s, t := r.s, &r.trail
	if s.audit == nil {
		return
	}
	if t.renamed != 0 {
		s.recordRename(&t.by, t.renamed)
	}
	var admins []string
	for i := range s.admins {
		if a := &s.admins[i]; s.now < a.Expires {
			admins = append(admins, strconv.FormatUint(uint64(a.ID), 10))
		}
	}
	s.record(&t.by, trail.Record{
		Act: trail.Recovery, Target: trail.Target{Kind: trail.OfGroup},
		Before: pairs("group", t.before.ID, "epoch", t.before.Epoch),
		After: pairs("group", s.group.ID, "epoch", s.group.Epoch, "height", s.head.Height,
			"adopted-blocks", r.done.Blocks, "dropped-records", r.done.Dropped, "dropped-audit-records", t.dropped,
			"restored-projects", r.done.Projects, "log-forgotten", t.logForgotten, "isolated", t.isolated,
			"admin-tokens", strings.Join(admins, ",")),
	})
	for _, i := range s.intents {
		by := t.by.derived("intent-" + strconv.FormatUint(i.Index, 10))
		s.record(&by, trail.Record{
			Act: i.Act, Phase: trail.Ended, Outcome: trail.Unknown, Intent: i.Index, Target: i.Target,
		})
	}
	s.intents = nil
}
