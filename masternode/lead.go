package masternode

import (
	"context"
	"errors"
	"maps"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/wire"
)

// outcome is how an action ended. It is applied to the memory by the goroutine of lead.
type outcome struct {
	action action
	err    error
	learn  func(m *memory, now time.Time) // what the answer tells, nil where it tells nothing
}

// leadership is one term of this master as leader.
type leadership struct {
	node     *Node
	order    wire.Order
	outcomes chan outcome
	over     chan struct{}  // closed when the loop has ended and takes no outcome any more
	running  sync.WaitGroup // the actions

	fences *fences

	began time.Time // after the term's BeginTerm was committed: the clock of keys goes by what has passed since

	mu        sync.Mutex      // guards all below
	live      map[string]bool // by worker id: who answered lately, for Cluster
	tasks     map[string]wire.Task
	aborted   map[string]wire.Aborted // by storage node: its last check, where that ended early
	witnesses []wire.Witness
	mute      []string // that of the last decision
	older     []string // that of the last decision
}

// lead does the duties of the leader until ctx, which dies with the leadership, ends.
func (n *Node) lead(ctx context.Context, term uint64) error {
	if n.fenced.Load() { // Run ends; to give the leadership away now would only send it round among masters that end
		<-ctx.Done()
		return ctx.Err()
	}
	if err := n.begin(ctx, term); err != nil {
		return err
	}
	var epoch uint64
	n.cfg.Ledger.Read(func(s *masterfsm.State) { epoch = s.Group().Epoch })
	order := wire.Order{Epoch: epoch, Term: term}
	l := &leadership{
		node: n, order: order, outcomes: make(chan outcome), over: make(chan struct{}),
		fences: newFences(), live: map[string]bool{},
	}
	l.passFences(ctx)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	l.began = n.cfg.Clock()
	n.setLeadership(l)
	defer n.setLeadership(nil)
	n.log.Info("leading", "term", term, "epoch", epoch)
	for _, notice := range n.flagNotices() {
		n.log.Error(notice.Text())
	}
	_, _ = n.checkpointHere() // it says so itself where nothing can be signed
	ctx, cancel := context.WithCancel(ctx)
	defer l.running.Wait()
	defer cancel()
	defer close(l.over)
	l.running.Go(func() { l.watchFences(ctx) })
	l.loop(ctx)
	n.log.Info("no longer leading", "term", term)
	return nil
}

// begin commits BeginTerm: barrier, fence and address in one.
func (n *Node) begin(ctx context.Context, term uint64) error {
	_, err := n.propose(ctx, &masterfsm.BeginTerm{
		Term: term, Member: n.cfg.Member.ID, URL: n.cfg.Member.URL, Time: n.now(),
		Group: n.Member().Group, Settings: n.cfg.Settings,
	})
	return err
}

// loop plans, starts, cancels and waits, until ctx ends. It alone touches the memory.
func (l *leadership) loop(ctx context.Context) {
	m := newMemory(l.node.cfg.Clock())
	l.node.cfg.Ledger.Read(func(s *masterfsm.State) { m.witnesses = newWitnessing(l.node.cfg.Witnesses, s.View()) })
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		changed := l.node.cfg.Ledger.StateChanged()
		var view masterfsm.View
		l.node.cfg.Ledger.Read(func(s *masterfsm.State) { view = s.View() })
		m.givenKey.note(&l.node.cfg.Log, view)
		now := l.node.cfg.Clock()
		m.note(view, now)
		m.witnesses.note(view, l.node.pace, now)
		d := plan(view, m, l.node.cfg.Membership.Members(), l.node.pace, now)
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
		m.of(a.node).tried = now
	}
	// What the action needs of the memory is taken now: the memory belongs to the loop.
	job := l.job(a, view, m)
	l.running.Go(func() {
		defer cancel()
		learn, err := job(ctx)
		if err != nil || a.kind == actPingStorage || a.kind == actPingMiner {
			l.heardFrom(a.node, now, err)
		}
		select {
		case l.outcomes <- outcome{action: a, err: err, learn: learn}:
		case <-l.over:
		}
	})
}

// learn takes an outcome into the memory.
func (l *leadership) learn(ctx context.Context, m *memory, o outcome) {
	now := l.node.cfg.Clock()
	delete(m.inflight, o.action)
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
	if pause := l.node.pace.after(o.action.kind, o.err); pause > 0 {
		m.paused[o.action] = now.Add(pause)
	}
	if o.err == nil {
		return
	}
	if errors.Is(o.err, context.Canceled) || errors.Is(o.err, masterfsm.ErrStale) {
		return // another was quicker: nothing is wrong
	}
	switch o.action.kind {
	case actPingStorage, actPingMiner, actPingMaster:
		return // who does not answer shows in the status
	}
	level := hclog.Debug
	switch o.action.kind {
	case actBeginRepair, actFoundLog, actAddLogKey:
		level = hclog.Warn // it is tried again now and then, and somebody must know why the node stays invalid, or the key away
	}
	l.node.log.Log(level, "action failed", "action", o.action.kind, "node", o.action.node, "block", o.action.block, "error", o.err)
}

// publish makes what the leader has seen readable for Cluster.
func (l *leadership) publish(view masterfsm.View, m *memory, d decision, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.live)
	l.aborted = map[string]wire.Aborted{}
	for i := range view.Storages {
		id := view.Storages[i].ID
		l.live[id] = m.live(id, now, l.node.pace)
		if s := m.nodes[id]; s != nil && s.aborted != nil {
			l.aborted[id] = *s.aborted
		}
	}
	for i := range view.Miners {
		id := view.Miners[i].ID
		l.live[id] = m.live(id, now, l.node.pace)
	}
	l.tasks, l.mute, l.older = maps.Clone(m.tasks), d.mute, d.older
	l.witnesses = l.witnesses[:0]
	for _, w := range m.witnesses.list {
		l.witnesses = append(l.witnesses, w.status())
	}
}
