package leader

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/chainstore/chainstore/internal/origin"
	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/wire"
	"github.com/chainstore/chainstore/wire/trail"
)

// transferTime is how long a transfer of the leadership may take before this leader, which still leads, records that it
// was not done, in milliseconds.
const transferTime = 30_000

// intents ends the open intents of the audit trail whose outcome is known. It compares them with raft's configuration
// and the newest term, so a new leader completes what the one before it left. The outcome follows the change in the
// log: where it is committed, so is the change.
func (w *planner) intents() {
	for i := range w.view.Intents {
		intent := &w.view.Intents[i]
		if _, known := outcomeOf(intent, &w.view, w.members, w.memory.time); known {
			w.want(action{kind: actEndIntent, block: intent.Index})
		}
	}
}

// outcomeOf returns the outcome of an intent. known is false while it is open. now is the time for commands. An intent
// that is over is trail.Unknown where its act may have happened and been undone since.
func outcomeOf(
	i *masterfsm.Intent, v *masterfsm.View, members []wire.Master, now uint64,
) (_ trail.Outcome, known bool) {
	id := i.Target.ID
	at := slices.IndexFunc(members, func(m wire.Master) bool { return m.ID == id })
	done, over, otherwise := false, false, trail.Unknown
	switch i.Act {
	case trail.MasterAdmit: // with a newer one of the same address, either may have made the change
		newer := newerIntent(i, v)
		done = at >= 0 && members[at].Raft == i.Raft && !newer
		over = v.Master(id).Raft != i.Raft || newer
	case trail.MasterRemove: // the plan removes it until it is gone
		done = at < 0
	case trail.MasterPromote:
		done = at >= 0 && members[at].Voter
		over = at < 0
	case trail.LeadershipTransfer:
		moved := v.Term.Leader != i.Leader
		done = moved && (i.Target.Kind == trail.OfGroup || v.Term.Leader == id)
		over = v.Term.Term != i.Term || now-min(now, i.Since) > transferTime
		if v.Term.Term <= i.Term+1 { // no term in between, in which the target may have led
			otherwise = trail.NotDone
		}
	}
	switch {
	case done:
		return trail.Succeeded, true
	case over:
		return otherwise, true
	}
	return trail.Unknown, false
}

// newerIntent reports whether there is a newer intent of the same act and target, which replaces this one.
func newerIntent(i *masterfsm.Intent, v *masterfsm.View) bool {
	return slices.ContainsFunc(v.Intents, func(o masterfsm.Intent) bool {
		return o.Act == i.Act && o.Target == i.Target && o.Index > i.Index
	})
}

// endIntent commits the outcome of an intent, as it is now.
func (l *leadership) endIntent(a action) job {
	return func(ctx context.Context) (func(*memory, time.Time), error) {
		var v masterfsm.View
		l.cfg.Ledger.Read(func(s *masterfsm.State) { v = s.View() })
		members, now := l.cfg.Membership.Members(), l.Now()
		for i := range v.Intents {
			if v.Intents[i].Index != a.block {
				continue
			}
			if outcome, known := outcomeOf(&v.Intents[i], &v, members, now); known {
				return nil, l.end(ctx, &v.Intents[i], outcome)
			}
		}
		return nil, nil
	}
}

// end commits the outcome of an intent. It is no error if that is recorded already.
func (l *Leader) end(ctx context.Context, i *masterfsm.Intent, outcome trail.Outcome) error {
	_, err := l.Propose(ctx, &masterfsm.EndIntent{Index: i.Index, Outcome: outcome, Time: l.Now()})
	if errors.Is(err, masterfsm.ErrStale) {
		err = nil
	}
	return err
}

// intend commits the intent of an act that is no command, if the group has an audit trail. open reports that one of the
// same act and target is open already.
func (l *Leader) intend(ctx context.Context, act trail.Act, target trail.Target) (open bool, err error) {
	if l.level() < masterfsm.LevelAudit {
		return false, nil
	}
	_, err = l.Propose(ctx, &masterfsm.NoteAct{Act: act, Phase: trail.Intent, Target: target, Time: l.Now()})
	if errors.Is(err, masterfsm.ErrStale) {
		return true, nil
	}
	return false, err
}

// promote gives a member a vote, after the intent of it.
func (l *leadership) promote(ctx context.Context, id string) error {
	if _, err := l.intend(ctx, trail.MasterPromote, trail.Target{Kind: trail.OfMaster, ID: id}); err != nil {
		return err
	}
	return l.cfg.Membership.Promote(ctx, id)
}

// TransferLeadership hands the leadership to a master, "" for the one that has most of the log. The actor is that of
// ctx, or this leader. The intent is recorded before, and the next leader records the outcome. If the transfer does not
// begin, this one does. Errors: those of [Leader.Propose], wire.ErrNotVoter, wire.ErrUnavailable while another transfer
// is open.
func (l *Leader) TransferLeadership(ctx context.Context, to string) error {
	target := trail.Target{Kind: trail.OfMaster, ID: to}
	if to == "" {
		target.Kind = trail.OfGroup
	}
	open, err := l.intend(ctx, trail.LeadershipTransfer, target)
	switch {
	case err != nil:
		return err
	case open:
		return fmt.Errorf("%w: another transfer of the leadership is under way", wire.ErrUnavailable)
	}
	failed := l.cfg.Membership.TransferLeadership(to)
	if failed == nil {
		return nil
	}
	failed = fmt.Errorf("%w: %w", wire.ErrNotVoter, failed)
	var v masterfsm.View
	l.cfg.Ledger.Read(func(s *masterfsm.State) { v = s.View() })
	for i := range v.Intents {
		if v.Intents[i].Act == trail.LeadershipTransfer && v.Intents[i].Target == target {
			if err := l.end(ctx, &v.Intents[i], trail.NotDone); err != nil {
				l.log.Warn("the outcome of a transfer of the leadership is not recorded yet", "error", err)
			}
		}
	}
	return failed
}

// reportPause is the time between two reports of a node that are committed, for each act: a node may report anything.
const reportPause = time.Minute

// reports commits what nodes report of themselves, once each: a node loads a new certificate, or new values of its
// secrets, without asking anyone.
func (w *planner) reports() {
	if w.view.Level < masterfsm.LevelAudit {
		return
	}
	for i := range w.view.Storages {
		w.report(trail.OfStorage, w.view.Storages[i].ID)
	}
	for i := range w.view.Miners {
		w.report(trail.OfMiner, w.view.Miners[i].ID)
	}
	for i := range w.members {
		w.report(trail.OfMaster, w.members[i].ID)
	}
}

func (w *planner) report(kind trail.TargetKind, id string) {
	for _, act := range []trail.Act{trail.CertificateReload, trail.SecretReload} {
		note := w.memory.reportOf(act, kind, id, w.view.Term.Leader)
		if note == nil {
			continue
		}
		known := slices.ContainsFunc(w.view.Reports, func(r masterfsm.Reported) bool {
			return r.Act == act && r.Target == note.Target && slices.Equal(r.Values, note.After)
		})
		if known {
			continue
		}
		if due := w.memory.reportedAt(id, act).Add(reportPause); w.now.Before(due) {
			w.wakeAt(due)
			continue
		}
		w.want(action{kind: actReport, node: id, block: uint64(kind), version: uint64(act)})
	}
}

// reportedAt returns when a report of a node was committed last; zero if this leader committed none.
func (m *memory) reportedAt(id string, act trail.Act) (at time.Time) {
	if seen := m.nodes[id]; seen != nil {
		at = seen.reported[act]
	}
	return at
}

// reportOf returns what a node has reported of its certificate or its secrets, nil for nothing.
func (m *memory) reportOf(act trail.Act, kind trail.TargetKind, id, leader string) *masterfsm.NoteAct {
	certificate, secrets := m.certificate, m.secrets
	if kind != trail.OfMaster || id != leader {
		certificate, secrets = nil, nil
		if seen := m.nodes[id]; seen != nil {
			certificate, secrets = seen.certificate, seen.secrets
		}
	}
	note := &masterfsm.NoteAct{Act: act, Phase: trail.Reported, Target: trail.Target{Kind: kind, ID: id}}
	switch {
	case act == trail.SecretReload:
		note.After = secretValues(secrets)
	case certificate != nil && certificate.Serial != "":
		note.After = []trail.Value{
			{Name: "identity", Value: certificate.Identity}, {Name: "serial", Value: certificate.Serial},
		}
		if certificate.UserSerial != "" {
			note.After = append(note.After, trail.Value{Name: "user_serial", Value: certificate.UserSerial})
		}
	}
	if len(note.After) == 0 {
		return nil
	}
	note.After = trail.CutValues(note.After) // as the state machine keeps them
	return note
}

// secretValues has the fingerprints of the values of each secret.
func secretValues(list []wire.SecretUse) (values []trail.Value) {
	for i := range list {
		text := list[i].Current
		if list[i].Next != "" {
			text += " next " + list[i].Next
		}
		if list[i].Old != "" {
			text += " old " + list[i].Old
		}
		values = append(values, trail.Value{Name: list[i].Secret, Value: text})
	}
	return values
}

// commitReport commits the report of a node, which is the actor.
func (l *leadership) commitReport(a action, view masterfsm.View, m *memory) job {
	act := trail.Act(a.version)
	note := m.reportOf(act, trail.TargetKind(a.block), a.node, view.Term.Leader)
	return func(ctx context.Context) (func(*memory, time.Time), error) {
		if note == nil {
			return nil, nil
		}
		note.Time = l.Now()
		by := trail.Origin{Actor: trail.Actor{Kind: trail.ByNode, Name: a.node}}
		_, err := l.Propose(origin.With(ctx, by), note)
		if errors.Is(err, masterfsm.ErrStale) {
			err = nil // committed by the leader before
		}
		return func(m *memory, now time.Time) {
			seen := m.node(a.node)
			if seen.reported == nil {
				seen.reported = map[trail.Act]time.Time{}
			}
			seen.reported[act] = now
		}, err
	}
}
