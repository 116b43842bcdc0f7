package masternode

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/chainstore/chainstore/internal/joining"
	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/wire"
)

// RemoveMaster removes a master, named by its id or address, permanently. This master must lead. If it is to remove
// itself, it hands the leadership over, and the next leader does it. Without force the removal is refused if the
// remaining masters could not elect a leader. Errors: wire.ErrNotLeader, wire.ErrNotFound, wire.ErrTooFewMasters,
// wire.ErrNoLeader.
func (n *Node) RemoveMaster(ctx context.Context, idOrURL string, force bool) error {
	if !n.leader.Leads() {
		return wire.ErrNotLeader
	}
	n.changing.Lock()
	defer n.changing.Unlock()
	target, err := n.findMaster(ctx, idOrURL)
	if err != nil {
		return err
	}
	members, _ := n.group()
	return n.remove(ctx, members, target, force)
}

// findMaster returns the master of an id or address, from raft's configuration or from the table alone. A negative
// answer is confirmed. Errors: wire.ErrNotFound, wire.ErrNoLeader.
func (n *Node) findMaster(ctx context.Context, idOrURL string) (found wire.Master, err error) {
	err = n.confirmed(ctx, func() error {
		for _, m := range withTable(n.group()) {
			if isNamed(m.ID, m.URL, idOrURL) || m.Raft == strings.TrimRight(idOrURL, "/") {
				found = m
				return nil
			}
		}
		return errNotHere
	})
	if errors.Is(err, wire.ErrNotFound) {
		return wire.Master{}, fmt.Errorf("%w: no master has the id or address %q", wire.ErrNotFound, idOrURL)
	}
	return found, err
}

// FindNode returns how to reach the node of an id or address, "" for this master. The token is "" for a master. self
// reports whether it is this master. A negative answer is confirmed. Errors: wire.ErrNotFound, wire.ErrNoLeader,
// wire.ErrUnavailable if the URL of the master is not known.
func (n *Node) FindNode(ctx context.Context, idOrURL string) (node wire.Worker, self bool, err error) {
	if idOrURL == "" || isNamed(n.cfg.Member.ID, n.ownURL(), idOrURL) {
		return wire.Worker{URL: n.ownURL()}, true, nil
	}
	worker := false
	n.cfg.Ledger.Read(func(s *masterfsm.State) {
		v := s.View()
		for i := range v.Storages {
			if w := &v.Storages[i]; isNamed(w.ID, w.URL, idOrURL) {
				node, worker = w.Worker(), true
			}
		}
		for i := range v.Miners {
			if w := &v.Miners[i]; isNamed(w.ID, w.URL, idOrURL) {
				node, worker = w.Worker(), true
			}
		}
	})
	if worker {
		return node, false, nil
	}
	found, err := n.findMaster(ctx, idOrURL)
	switch {
	case errors.Is(err, wire.ErrNotFound):
		return node, false, fmt.Errorf("%w: no node has the id or address %q", wire.ErrNotFound, idOrURL)
	case err != nil:
		return node, false, err
	case found.URL == "":
		return node, false, fmt.Errorf("%w: the URL of master %s is not known", wire.ErrUnavailable, found.ID)
	}
	return wire.Worker{URL: found.URL}, found.ID == n.cfg.Member.ID, nil
}

// remove removes a master, on the leader. changing is held. The removal is committed to the table first, so that a
// later leader can finish it.
func (n *Node) remove(ctx context.Context, members []wire.Master, target wire.Master, force bool) error {
	if err := n.checkMajorityWithout(ctx, members, target); err != nil && (!force || len(members) == 1) {
		return err
	}
	if target.ID == n.cfg.Member.ID {
		err := n.leader.TransferLeadership(ctx, "")
		if errors.Is(err, wire.ErrUnavailable) { // the next leader removes this one
			return fmt.Errorf("%w: %w", wire.ErrNotLeader, err)
		}
		if err != nil {
			return fmt.Errorf("the leader cannot hand over before it goes: %w", err)
		}
		return fmt.Errorf("%w: it has handed over, since it is the one to be removed", wire.ErrNotLeader)
	}
	c := &masterfsm.RemoveMaster{ID: target.ID, Force: force, Time: n.leader.Now()}
	if _, err := n.leader.Propose(ctx, c); err != nil {
		return err
	}
	n.log.Warn("master removed for good", "id", target.ID, "url", target.URL, "forced", force)
	return n.cfg.Membership.RemoveMember(ctx, target.ID)
}

// checkMajorityWithout checks that a majority of the masters that would remain without one answers.
func (n *Node) checkMajorityWithout(ctx context.Context, members []wire.Master, target wire.Master) error {
	if !target.Voter {
		return nil
	}
	var rest []wire.Master
	for _, m := range members {
		if m.Voter && m.ID != target.ID {
			rest = append(rest, m)
		}
	}
	if len(rest) == 0 {
		return fmt.Errorf("%w: %s is the only one", wire.ErrTooFewMasters, target.ID)
	}
	var there atomic.Int64
	var asking sync.WaitGroup
	for _, m := range rest {
		asking.Go(func() {
			if n.isAlive(ctx, m) {
				there.Add(1)
			}
		})
	}
	asking.Wait()
	if need := len(rest)/2 + 1; int(there.Load()) < need {
		return fmt.Errorf("%w: without %s there are %d masters, of which %d answer and %d are needed to elect a leader",
			wire.ErrTooFewMasters, target.ID, len(rest), there.Load(), need)
	}
	return nil
}

// handOverWait is how long another master may take to begin its term after a transfer. It is shorter than the time that
// a master waits which forwarded the request.
const handOverWait = leaderWait - time.Second

// TransferLeadership hands the leadership to a master that is named by its id or address, or to the one that has most
// of the log. It returns the id of the new leader once this master knows it. Errors: wire.ErrNotLeader,
// wire.ErrNotFound, wire.ErrNotVoter, wire.ErrNoLeader, wire.ErrUnavailable while another transfer is under way.
func (n *Node) TransferLeadership(ctx context.Context, to string) (string, error) {
	if !n.leader.Leads() {
		return "", wire.ErrNotLeader
	}
	if to != "" {
		target, err := n.findMaster(ctx, to)
		if err != nil {
			return "", err
		}
		if to = target.ID; to == n.cfg.Member.ID {
			return to, nil
		}
		if !target.Voter {
			return "", fmt.Errorf("%w: %s is still catching up", wire.ErrNotVoter, to)
		}
	}
	if err := n.leader.TransferLeadership(ctx, to); err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, handOverWait)
	defer cancel()
	for {
		changed := n.cfg.Ledger.LeaderChanged()
		if id, url := n.knownLeader(); id != "" && id != n.cfg.Member.ID && url != "" {
			return id, nil
		}
		select {
		case <-ctx.Done():
			return "", fmt.Errorf("%w within %v after the leadership was handed over: %w",
				wire.ErrNoLeader, handOverWait, context.Cause(ctx))
		case <-changed:
		}
	}
}

// SetTime moves the time of the group forward, unix milliseconds, by more than a day only if force is set. This master
// must lead. Errors: wire.ErrNotLeader, wire.ErrBadRequest, wire.ErrUnavailable.
func (n *Node) SetTime(ctx context.Context, to uint64, force bool) (wire.TimeSet, error) {
	was, err := n.leader.SetTime(ctx, to, force)
	if err != nil {
		return wire.TimeSet{}, err
	}
	n.log.Warn("a person set the time of the group", "from", was, "to", to)
	return wire.TimeSet{Time: to, Was: was}, nil
}

// checkEpoch compares another master's epoch with this one's. A group that was recovered without this master has a
// higher one, and this master's log is obsolete: it stops permanently. From protocol level 7 on it does so only if the
// announcement of the other master is signed with the key that this master's table has for it. Otherwise it logs a
// warning: whoever has the cluster token can say any epoch.
func (n *Node) checkEpoch(m wire.Member) {
	own := n.Member()
	if own.Group == "" || m.Group != own.Group || m.Epoch <= own.Epoch {
		return
	}
	if m.ID == own.ID && n.cfg.Ledger.Level() >= masterfsm.LevelJoining || !n.isProven(m) {
		if n.warnedEpoch.Swap(m.Epoch) != m.Epoch {
			n.log.Warn("a master says that the group was recovered without this one, and does not prove to be a "+
				"member; "+
				"this master goes on", "id", m.ID, "url", m.URL, "epoch", m.Epoch, "own epoch", own.Epoch)
		}
		return
	}
	n.stop(fmt.Errorf("%w: the group was recovered without this master: it is at epoch %d, the group at %d "+
		"according to %s",
		wire.ErrRemoved, own.Epoch, m.Epoch, m.URL))
}

// isProven reports whether what a master says of itself is signed with the key that the table has of it, in no older
// start than the table knows. Below protocol level 7 there are no keys, and it is true.
func (n *Node) isProven(m wire.Member) bool {
	var level uint64
	var row masterfsm.Master
	n.cfg.Ledger.Read(func(s *masterfsm.State) {
		v := s.View()
		level, row = v.Level, v.Master(m.ID)
	})
	return level < masterfsm.LevelJoining || row.Key != "" && joining.Verify(n.Member().Group, m) == nil &&
		m.Proof.Key == row.Key && m.Proof.Start >= row.Start
}

// stop makes Run return an error. Only the first call counts.
func (n *Node) stop(err error) {
	select {
	case n.over <- err:
	default:
	}
}

// waitStopped waits until this master must stop, and returns the reason. It returns nil when ctx ends.
func (n *Node) waitStopped(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case err := <-n.over:
		return n.retire(err)
	}
}

// errNothingToAsk: there is no other master to announce this one to.
var errNothingToAsk = errors.New("no other master is known")

// TLSMode is the step of the move to TLS that the connections of a master follow.
type TLSMode interface {
	Step() wire.TLSStep
	// Advance follows the step of the table in an epoch of the group. An older one is ignored. After an error the
	// master must stop.
	Advance(epoch uint64, s wire.TLSState) error
	// Confirm says that the step is not older than what a leader had since this start.
	Confirm()
	Confirmed() bool
}

// TLSCalls are the calls that the move to TLS needs.
type TLSCalls interface {
	// Step asks a master for the step that the table of its leader has. Only the leader answers a forwarded call.
	Step(ctx context.Context, url string, forwarded bool) (wire.CommittedTLS, error)
	// ProbeOwn, ProbeMaster and ProbeWorker have this master, another one or a worker try TLS with other nodes.
	ProbeOwn(ctx context.Context, p wire.TLSProbe) (wire.TLSProbed, error)
	ProbeMaster(ctx context.Context, url string, p wire.TLSProbe) (wire.TLSProbed, error)
	ProbeWorker(ctx context.Context, w wire.Worker, o wire.Order, p wire.TLSProbe) (wire.TLSProbed, error)
}

// unmoved is the mode of a master whose group is never moved.
type unmoved struct{}

func (unmoved) Step() wire.TLSStep                  { return wire.TLSByFlags }
func (unmoved) Advance(uint64, wire.TLSState) error { return nil }
func (unmoved) Confirm()                            {}
func (unmoved) Confirmed() bool                     { return true }

// followEvery is the time between two looks at the step of TLS in the table.
const followEvery = 50 * time.Millisecond

// TLSStep is the step of the move to TLS that this master follows.
func (n *Node) TLSStep() wire.TLSStep {
	if n.cfg.TLS == nil {
		return wire.TLSByFlags // a node that was not made by New, as in tests
	}
	return n.cfg.TLS.Step()
}

// ownURL is this master's URL, as the table has it at the step that this master follows.
func (n *Node) ownURL() string { return n.TLSStep().URL(n.cfg.Member.URL) }

// followTLS takes the step of TLS from the table. After an error this master must stop: it has no certificates
// and the group requires TLS, for example.
func (n *Node) followTLS(ctx context.Context) error {
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	for {
		if err := n.advanceTLS(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// ProbeTLS tries TLS with other nodes, for a leader that asks whether the group may go on to the next step.
func (n *Node) ProbeTLS(ctx context.Context, p wire.TLSProbe) (wire.TLSProbed, error) {
	if len(p.Targets) > wire.MaxTLSTargets {
		return wire.TLSProbed{}, fmt.Errorf("%w: %d targets, and at most %d are tried at once", wire.ErrBadRequest,
			len(p.Targets), wire.MaxTLSTargets)
	}
	if n.cfg.TLSCalls == nil {
		return wire.TLSProbed{}, fmt.Errorf("%w: this master cannot try TLS", wire.ErrUnavailable)
	}
	return n.cfg.TLSCalls.ProbeOwn(ctx, p)
}

// advanceTLS takes the step of TLS that this master's table has now.
func (n *Node) advanceTLS() error {
	var epoch uint64
	var state wire.TLSState
	n.cfg.Ledger.Read(func(s *masterfsm.State) { epoch, state = s.Group().Epoch, s.TLS() })
	if err := n.cfg.TLS.Advance(epoch, state); err != nil {
		return fmt.Errorf("follow the step of TLS: %w", err)
	}
	return nil
}

// SetTLS changes the step of the move to TLS. This master must lead. A step that the table has is no error. Errors:
// wire.ErrNotLeader, wire.ErrUnavailable, wire.ErrBadRequest, masterfsm.ErrBadCommand, wire.ErrNotOnTLS.
func (n *Node) SetTLS(ctx context.Context, change wire.TLSChange) (wire.TLSChange, error) {
	if !n.leader.Leads() {
		return wire.TLSChange{}, wire.ErrNotLeader
	}
	n.changing.Lock() // no master joins meanwhile
	defer n.changing.Unlock()
	_, v := n.group()
	to := change.Step
	secured := n.cfg.Certificate() != nil
	switch {
	case to == wire.TLSByFlags || !to.Known():
		return wire.TLSChange{}, fmt.Errorf("%w: there is no step %q: give accept, prefer or require",
			wire.ErrBadRequest, to)
	case to == v.TLS.Step:
		return change, nil
	case v.Level < masterfsm.LevelTLSSteps:
		return wire.TLSChange{}, fmt.Errorf("%w: the step of TLS is changed from protocol level %d on, and the group "+
			"is at level %d: start all masters with the newest version", wire.ErrUnavailable, masterfsm.LevelTLSSteps,
			v.Level)
	case v.TLS.Step == wire.TLSByFlags && to == wire.TLSAccept && secured:
		return wire.TLSChange{}, fmt.Errorf("%w: the nodes of this group speak TLS already: go on with require",
			wire.ErrBadRequest)
	}
	if err := masterfsm.CheckTLSChange(v.TLS.Step, to); err != nil {
		return wire.TLSChange{}, err
	}
	var waiting []string
	var checked []masterfsm.CheckedNode
	if to == wire.TLSRequire {
		waiting, checked = n.notOnTLS(v)
	}
	if to != wire.TLSAccept {
		waiting = append(waiting, outOfTime(n.leader.Status().Certificates, n.cfg.Clock())...)
	}
	if to != wire.TLSAccept && len(waiting) == 0 {
		waiting = n.failingPairs(ctx, v)
	}
	if len(waiting) > 0 {
		return wire.TLSChange{}, fmt.Errorf("%w: %s", wire.ErrNotOnTLS, strings.Join(waiting, "; "))
	}
	c := &masterfsm.SetTLS{From: v.TLS.Step, To: to, Time: n.leader.Now(), Checked: checked}
	if _, err := n.leader.Propose(ctx, c); errors.Is(err, masterfsm.ErrStale) {
		return wire.TLSChange{}, fmt.Errorf("%w: %w", wire.ErrUnavailable, err)
	} else if err != nil {
		return wire.TLSChange{}, err
	}
	n.log.Warn("a person changed the step of TLS", "from", v.TLS.Step.Name(), "to", to.Name())
	return change, nil
}

// How long nodes may take to try TLS with all others. A follower waits five seconds for the answer to a command of
// administration that it forwards.
const probeTLSTime = 4 * time.Second

// mostPairs is how many failing pairs of nodes an error names.
const mostPairs = 20

// prober is a node that tries TLS with others.
type prober struct {
	wire.TLSTarget
	name  string // of the node in a text
	probe func(context.Context, wire.TLSProbe) (wire.TLSProbed, error)
}

// probers returns all nodes of the group.
func (n *Node) probers(v masterfsm.View) (all []prober) {
	add := func(kind, role, id, url, raft string, probe func(context.Context, wire.TLSProbe) (wire.TLSProbed, error)) {
		all = append(all, prober{wire.TLSTarget{ID: id, Role: role, URL: url, Raft: raft}, kind + " " + id, probe})
	}
	worker := func(w wire.Worker) func(context.Context, wire.TLSProbe) (wire.TLSProbed, error) {
		return func(ctx context.Context, p wire.TLSProbe) (wire.TLSProbed, error) {
			return n.cfg.TLSCalls.ProbeWorker(ctx, w, orderOf(v), p)
		}
	}
	for _, m := range n.cfg.Membership.Members() {
		url, probe := v.Master(m.ID).URL, n.cfg.TLSCalls.ProbeOwn
		if m.ID != n.cfg.Member.ID {
			probe = func(ctx context.Context, p wire.TLSProbe) (wire.TLSProbed, error) {
				return n.cfg.TLSCalls.ProbeMaster(ctx, url, p)
			}
		}
		add("master", wire.TargetMaster, m.ID, url, cmp.Or(v.Master(m.ID).Raft, m.Raft), probe)
	}
	for i := range v.Storages {
		s := &v.Storages[i]
		add("storage node", wire.TargetStorage, s.ID, s.URL, "", worker(s.Worker()))
	}
	for i := range v.Miners {
		m := &v.Miners[i]
		add("miner", wire.TargetMiner, m.ID, m.URL, "", worker(m.Worker()))
	}
	return all
}

// reaches reports whether nodes of one role call those of another.
func reaches(from, to string) bool {
	return from == wire.TargetMaster || to == wire.TargetMaster ||
		from == wire.TargetStorage && to == wire.TargetStorage
}

// failingPairs has every node try TLS with each node that it calls, and lists the pairs that fail.
func (n *Node) failingPairs(ctx context.Context, v masterfsm.View) (texts []string) {
	if n.cfg.TLSCalls == nil {
		return nil // a node of a test
	}
	ctx, cancel := context.WithTimeout(ctx, probeTLSTime)
	defer cancel()
	all := n.probers(v)
	failed := make([][]string, len(all))
	var probing sync.WaitGroup
	for i, from := range all {
		probing.Go(func() { failed[i] = from.failures(ctx, all) })
	}
	probing.Wait()
	texts = slices.Concat(failed...)
	if more := len(texts) - mostPairs; more > 0 {
		texts = append(texts[:mostPairs:mostPairs], fmt.Sprintf("and %d more pairs of nodes", more))
	}
	return texts
}

// failures has one node try TLS with those of all nodes that it calls.
func (p *prober) failures(ctx context.Context, all []prober) (texts []string) {
	var probe wire.TLSProbe
	names := map[string]string{}
	for _, to := range all {
		if to.ID != p.ID && reaches(p.Role, to.Role) {
			probe.Targets = append(probe.Targets, to.TLSTarget)
			names[to.ID] = to.name
		}
	}
	answer, err := p.probe(ctx, probe)
	if err != nil {
		return []string{fmt.Sprintf("%s at %s did not try TLS with the other nodes: %v", p.name, p.URL, err)}
	}
	for _, f := range answer.Failed {
		texts = append(texts, fmt.Sprintf("%s does not reach %s at %s over TLS: %s", p.name,
			cmp.Or(names[f.ID], f.ID), f.Address, f.Reason))
	}
	return texts
}

// outOfTime lists the certificates that are out of their time. Nodes accept them for a grace only, so a step that leads
// to TLS would cut their nodes off later.
func outOfTime(list map[string]*wire.Certificate, now time.Time) (texts []string) {
	var notices noticeList
	notices.addCertificates(list, now)
	for _, m := range notices {
		switch m.Code {
		case wire.CodeCertificateEnded, wire.CodeCertificateGrace, wire.CodeCertificateRefused:
			texts = append(texts, m.Text())
		}
	}
	return texts
}

// notOnTLS lists the nodes that are not ready for the step that requires TLS, each with the reason, and all nodes that
// were checked.
func (n *Node) notOnTLS(v masterfsm.View) (waiting []string, checked []masterfsm.CheckedNode) {
	status := n.leader.Status()
	uses := status.TLS
	check := func(kind, id, url string) {
		checked = append(checked, masterfsm.CheckedNode{ID: id, Boot: status.Boots[id]})
		switch use := uses[id]; {
		case id == n.cfg.Member.ID:
			if n.cfg.Certificate() == nil {
				waiting = append(waiting, fmt.Sprintf("%s %s at %s, the leader, has no certificates", kind, id, url))
			}
		case use == nil:
			waiting = append(waiting, fmt.Sprintf("%s %s at %s has not answered this leader for a while; start it, "+
				"or remove it", kind, id, url))
		case !use.Secured:
			waiting = append(waiting, fmt.Sprintf("%s %s at %s answered in plain text", kind, id, url))
		case use.Step != v.TLS.Step:
			waiting = append(waiting, fmt.Sprintf("%s %s at %s does not know the step %s yet", kind, id, url,
				v.TLS.Step.Name()))
		}
	}
	for _, m := range n.cfg.Membership.Members() {
		check("master", m.ID, v.Master(m.ID).URL)
	}
	for i := range v.Storages {
		check("storage node", v.Storages[i].ID, v.Storages[i].URL)
	}
	for i := range v.Miners {
		check("miner", v.Miners[i].ID, v.Miners[i].URL)
	}
	return waiting, checked
}
