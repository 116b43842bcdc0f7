package leader

import (
	"context"
	"errors"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/wire"
)

// outcome is how an action ended. The loop applies it to the memory.
type outcome struct {
	action action
	err    error
	learn  func(m *memory, now time.Time) // updates the memory; may be nil
}

// loop plans, starts and cancels actions, and waits, until ctx ends. No other goroutine touches the memory.
func (l *leadership) loop(ctx context.Context) {
	m := newMemory(l.cfg.Clock())
	m.approve = l.cfg.Settings.ApproveWorkers
	l.cfg.Ledger.Read(func(s *masterfsm.State) { m.witnesses = newWitnessMemory(l.cfg.Witnesses, s.View()) })
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		changed := l.cfg.Ledger.StateChanged()
		var view masterfsm.View
		l.cfg.Ledger.Read(func(s *masterfsm.State) { view = s.View() })
		m.givenKey.update(&l.cfg.Log, view)
		m.certificate, m.secrets = l.cfg.Certificate(), l.cfg.Secrets()
		m.seals.update(&l.cfg.Log, view, m.secrets)
		now := l.cfg.Clock()
		m.noteOpenBlock(view, now)
		m.time = l.Now()
		m.noteChecks(view, m.time, now)
		m.checking.note(view, now)
		members := l.cfg.Membership.Members()
		m.clocks = l.compare(m.readings(members, l.cfg.Member.ID, now), now)
		m.witnesses.nominate(view, l.pace, now)
		d := plan(view, m, members, l.pace, now)
		for _, a := range d.cancel {
			m.inflight[a]()
		}
		for _, a := range d.start {
			l.start(ctx, m, a, view, now)
		}
		l.publish(view, m, d, now)
		timer.Reset(max(d.wake.Sub(now), time.Millisecond))
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-timer.C:
		case o := <-l.outcomes:
			l.learn(ctx, m, o)
		}
	}
}

// start runs an action in a goroutine of its own.
func (l *leadership) start(ctx context.Context, m *memory, a action, view masterfsm.View, now time.Time) {
	ctx, cancel := context.WithCancel(ctx)
	m.inflight[a] = cancel
	switch a.kind {
	case actPingStorage, actPingMiner, actPingMaster:
		m.node(a.node).tried = now
	}
	if a.kind == actPingMiner {
		miner := view.Miner(a.node)
		if s := m.node(a.node); s.entry != entryOf(&miner) {
			s.entry, s.entered, s.answered = entryOf(&miner), now, time.Time{}
		}
	}
	// The memory belongs to the loop, so the job copies what it needs of it now.
	job := l.job(a, view, m)
	l.running.Go(func() {
		defer cancel()
		learn, err := job(ctx)
		if err != nil || a.kind == actPingStorage || a.kind == actPingMiner {
			l.orderEnded(a.node, now, err)
		}
		select {
		case l.outcomes <- outcome{action: a, err: err, learn: learn}:
		case <-l.over:
		}
	})
}

// noticeOf returns the code of the notice about a node that answered a ping with a refusal, "" for any other outcome.
func noticeOf(err error) string {
	switch {
	case errors.Is(err, wire.ErrStaleFolder):
		return wire.CodeStaleFolder
	case errors.Is(err, wire.ErrUnauthorized): // it has another token: each worker and each cluster has its own
		return wire.CodeOtherNodeAtURL
	}
	return ""
}

// learn applies an outcome to the memory.
func (l *leadership) learn(ctx context.Context, m *memory, o outcome) {
	now := l.cfg.Clock()
	delete(m.inflight, o.action)
	switch o.action.kind {
	case actPingStorage, actPingMiner, actPingMaster:
		if !errors.Is(o.err, context.Canceled) {
			m.node(o.action.node).notice = noticeOf(o.err)
		}
	}
	if o.learn != nil {
		o.learn(m, now)
	}
	for a, again := range m.paused {
		if now.After(again) {
			delete(m.paused, a)
		}
	}
	if ctx.Err() != nil {
		return
	}
	if pause := l.pace.after(o.action.kind, o.err); pause > 0 {
		m.paused[o.action] = now.Add(pause)
	}
	if o.err == nil {
		return
	}
	if errors.Is(o.err, context.Canceled) || errors.Is(o.err, masterfsm.ErrStale) {
		return // the state changed meanwhile: nothing is wrong
	}
	switch o.action.kind {
	case actPingStorage, actPingMiner, actPingMaster:
		return // the status shows which nodes do not answer
	}
	level := hclog.Debug
	switch o.action.kind {
	case actBeginRepair, actFoundLog, actAddLogKey, actSealAgain:
		level = hclog.Warn // an operator must learn why the node stays invalid, or the key missing
	}
	l.log.Log(level, "action failed", "action", o.action.kind, "node", o.action.node, "block", o.action.block,
		"error", o.err)
}
