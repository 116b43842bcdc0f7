package masternode

import (
	"cmp"
	"container/list"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/internal/origin"
	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/masternode/leader"
	"github.com/chainstore/chainstore/wire"
	"github.com/chainstore/chainstore/wire/trail"
)

// Register adds a worker to the table, or updates it. Any master brings a registration to the leader; forwarded means
// that another master already did. A registration without news costs no log entry, so workers may register as often as
// they like. Errors: wire.ErrBadRequest, wire.ErrNoLeader, masterfsm.ErrBadCommand, wire.ErrRemoved,
// wire.ErrOtherStart, wire.ErrOtherGroup, wire.ErrTooManyRequests, wire.ErrBacklog, wire.ErrFenced if the worker has
// accepted an order of a later leader, wire.ErrTooMany if too many workers wait for approval, wire.ErrUnavailable while
// the group does not require approval yet that the leader requires.
func (n *Node) Register(ctx context.Context, r wire.Registration, forwarded bool) (wire.Registered, error) {
	if err := checkRegistration(r); err != nil {
		return wire.Registered{}, err
	}
	if err := n.checkReporter(r.ID, r.Group); err != nil {
		return wire.Registered{}, err
	}
	if forwarded {
		return n.register(ctx, r)
	}
	return leaderCall[wire.Registered]{
		local: func(ctx context.Context) (wire.Registered, error) { return n.register(ctx, r) },
		remote: func(ctx context.Context, url string) (wire.Registered, error) {
			answer, err := n.cfg.Masters.Register(ctx, url, r, true)
			if errors.Is(err, wire.ErrUnavailable) {
				err = fmt.Errorf("%w: %w", wire.ErrUnavailable, err) // the worker gets the leader's reason
			}
			return answer, err
		},
		again: anotherTry,
	}.do(ctx, n)
}

func checkRegistration(r wire.Registration) error {
	u, err := url.Parse(r.URL)
	switch {
	case err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "":
		return fmt.Errorf("%w: %q is no address of a worker; one is written http://host:port", wire.ErrBadRequest,
			r.URL)
	case r.Role != string(masterfsm.RoleStorage) && r.Role != string(masterfsm.RoleMiner):
		return fmt.Errorf("%w: role %q is neither storage nor miner", wire.ErrBadRequest, r.Role)
	case r.MasterToken == "":
		return fmt.Errorf("%w: a worker must name the token by which it will know a master", wire.ErrBadRequest)
	}
	return nil
}

// checkReporter refuses a node of another group. A node that does not know its group, of group "", is new, or of a
// version before protocol level 3.
func (n *Node) checkReporter(id, group string) error {
	if own := n.Member().Group; group != "" && own != "" && group != own {
		return fmt.Errorf("%w: node %q is of group %s, this is group %s: choose another --data folder or other "+
			"--masters", wire.ErrOtherGroup, id, group, own)
	}
	return nil
}

// checkSeen refuses a worker that has accepted an order of a later leader than the one that the table has.
func checkSeen(v masterfsm.View, r wire.Registration) error {
	if r.Seen == "" {
		return nil
	}
	seen, err := wire.ParseOrder(r.Seen)
	if err != nil {
		return fmt.Errorf("%w: the newest order that the worker has accepted: %w", wire.ErrBadRequest, err)
	}
	if own := orderOf(v); own.Less(seen) {
		return &wire.FencedError{Highest: own,
			Err: fmt.Errorf("%w: worker %q has accepted an order of epoch %d, term %d; this leader is of epoch %d, "+
				"term %d", wire.ErrFenced, r.ID, seen.Epoch, seen.Term, own.Epoch, own.Term)}
	}
	return nil
}

// register adds or updates a worker, on the leader. The error wraps wire.ErrNotLeader if this master does not lead.
func (n *Node) register(ctx context.Context, r wire.Registration) (wire.Registered, error) {
	if !n.leader.Leads() {
		return wire.Registered{}, errTermNotBegun
	}
	r.URL = strings.TrimRight(r.URL, "/")
	hash := chain.Hash(sha256.Sum256([]byte(r.AccessToken)))
	c := &masterfsm.Register{
		Role: masterfsm.Role(r.Role), ID: r.ID, URL: r.URL, MasterToken: r.MasterToken, AccessHash: hash, Boot: r.Boot,
		Height: r.Height, Hash: r.Hash, Unclean: r.Unclean, Time: n.leader.Now(),
	}
	var v masterfsm.View
	var removed, changes bool
	var over bool // a failed sync of the worker is over
	var older, otherStart, failedSync error
	n.cfg.Ledger.Read(func(s *masterfsm.State) {
		v = s.View()
		c.URL = v.TLS.Step.URL(c.URL)
		if s.Level() >= masterfsm.LevelIdentities { // older masters do not know these fields
			c.Previous, c.Lists = r.Previous, r.Lists
		}
		if s.Level() >= masterfsm.LevelCodes {
			c.Level = r.Level
		}
		if s.Level() >= masterfsm.LevelFailedSyncs {
			c.Kernel, c.AfterFailedSync = r.Kernel, r.AfterFailedSync
		}
		older = s.CheckWorkerLevel(c)
		otherStart, failedSync = s.CheckStart(c), s.CheckFailedSync(c)
		over = s.FailedSyncOf(c.ID).ID != ""
		changes = s.RegistersAddress(c)
		removed = r.ID != "" && slices.Contains(s.IntegrityLog().Removed, r.ID)
	})
	answer := wire.Registered{ID: r.ID, AccessToken: r.AccessToken, Group: v.Group.ID, Order: orderOf(v).String()}
	if v.Level >= masterfsm.LevelProofs {
		answer.Level, answer.TLS = v.Level, v.TLS
	}
	if err := checkSeen(v, r); err != nil {
		return wire.Registered{}, err
	}
	known, upToDate := entered(v, c)
	from := registering(ctx, known, r)
	ctx = origin.With(ctx, from)
	switch {
	case older != nil && !removed:
		return wire.Registered{}, older
	case known && otherStart != nil: // without an entry in the log: it asks again and again
		return wire.Registered{}, otherStart
	case known && failedSync != nil:
		return wire.Registered{}, failedSync
	case upToDate && !over:
		return answer, nil
	case removed:
		return wire.Registered{}, fmt.Errorf("%w: %s", wire.ErrRemoved, r.ID)
	case !known && n.cfg.Settings.ApproveWorkers && !v.Settings.ApproveWorkers:
		return wire.Registered{}, fmt.Errorf("%w: the leader was started with --approve-workers, and the group does "+
			"not require approval yet: it does in seconds from protocol level %d on, and is at level %d",
			wire.ErrUnavailable, masterfsm.LevelApprovals, v.Level)
	case !known:
		entry := waitingAs(v, c)
		if entry.ID == "" {
			answer.ID = r.Role[:1] + "-" + strings.ToLower(rand.Text()[:12])
			answer.AccessToken = rand.Text()
			c.ID, c.AccessHash = answer.ID, sha256.Sum256([]byte(answer.AccessToken))
		}
		waits, err := n.checkWaiting(c)
		switch {
		case err != nil:
			return wire.Registered{}, err
		case waits && entry.URL == c.URL && c.Time < entry.Seen+masterfsm.WaitingRenewal:
			answer.Waiting, answer.Order = true, ""
			return answer, nil
		case waits:
			return n.enterWaiting(ctx, c, answer)
		}
	}
	if err := n.checkOwnURL(ctx, v, c); err != nil {
		return wire.Registered{}, err
	}
	if !known || changes {
		if err := n.registers.take(known, c.ID, from.Source.Address, n.cfg.Clock()); err != nil {
			return wire.Registered{}, err
		}
	}
	c.Time = n.leader.Now()
	result, err := n.leader.Propose(ctx, c)
	if err != nil {
		return wire.Registered{}, err
	}
	if _, waits := result.(*masterfsm.WaitingWorker); waits { // approval is required since
		answer.Waiting, answer.Order = true, ""
		return answer, nil
	}
	n.cfg.Ledger.Read(func(s *masterfsm.State) { v = s.View() }) // another leader may have begun meanwhile
	answer.Order = orderOf(v).String()
	n.log.Info("worker registered", "role", r.Role, "id", answer.ID, "url", r.URL, "height", r.Height)
	return answer, nil
}

// waitingAs returns the entry of a worker that waits for approval, or was approved; zero for another one.
func waitingAs(v masterfsm.View, c *masterfsm.Register) (entry masterfsm.WaitingWorker) {
	for _, w := range v.WaitingWorkers {
		if w.ID == c.ID && w.Role == c.Role && sameHash(w.AccessHash, c.AccessHash) {
			return w
		}
	}
	return entry
}

// checkWaiting reports whether the worker of a registration must wait for approval. It refuses the registration if too
// many wait, without an entry in the log: workers ask again and again.
func (n *Node) checkWaiting(c *masterfsm.Register) (waits bool, err error) {
	n.cfg.Ledger.Read(func(s *masterfsm.State) {
		if waits = s.MustWait(c); waits {
			err = s.CheckWaiting(c)
		}
	})
	return waits, err
}

// enterWaiting enters a worker that waits for approval, or renews its entry. The worker gets no order.
func (n *Node) enterWaiting(
	ctx context.Context, c *masterfsm.Register, answer wire.Registered,
) (wire.Registered, error) {
	result, err := n.leader.Propose(ctx, c)
	if err != nil {
		return wire.Registered{}, err
	}
	if _, answer.Waiting = result.(*masterfsm.WaitingWorker); !answer.Waiting {
		return answer, nil // approval is no longer required
	}
	answer.Order = ""
	n.log.Warn("a worker waits for the approval of an administrator", "role", c.Role, "id", c.ID, "url", c.URL)
	return answer, nil
}

// ApproveWorker lets a waiting worker in: it becomes part of the cluster with its next registration, within seconds.
// This master must lead. Errors: wire.ErrNotLeader, wire.ErrUnavailable, masterfsm.ErrUnknownNode.
func (n *Node) ApproveWorker(ctx context.Context, id string) (wire.WaitingWorker, error) {
	return n.decideWorker(ctx, id, true)
}

// RefuseWorker refuses a waiting worker: see [masterfsm.DecideWorker]. This master must lead. Errors:
// wire.ErrNotLeader, wire.ErrUnavailable, masterfsm.ErrUnknownNode.
func (n *Node) RefuseWorker(ctx context.Context, id string) error {
	_, err := n.decideWorker(ctx, id, false)
	return err
}

func (n *Node) decideWorker(ctx context.Context, id string, approve bool) (wire.WaitingWorker, error) {
	if !n.leader.Leads() {
		return wire.WaitingWorker{}, wire.ErrNotLeader
	}
	decided, err := leader.ProposeFor[*masterfsm.WaitingWorker](ctx, n.leader, &masterfsm.DecideWorker{
		ID: id, Approve: approve, Time: n.leader.Now(),
	})
	if err != nil {
		return wire.WaitingWorker{}, err
	}
	n.log.Warn("a person decided about a waiting worker", "id", id, "url", decided.URL, "approved", approve)
	return wireWaiting(*decided), nil
}

// wireWaiting returns a waiting worker in the form of the API.
func wireWaiting(w masterfsm.WaitingWorker) wire.WaitingWorker {
	return wire.WaitingWorker{ID: w.ID, Role: string(w.Role), URL: w.URL, Since: w.Since, Approved: w.Approved}
}

// registering returns the origin of a registration. A worker is named by its id only if the table has that id with its
// access token: anyone with the secret of a role can write any id. Otherwise it has the name of its certificate, if the
// leader has seen that.
func registering(ctx context.Context, known bool, r wire.Registration) trail.Origin {
	from, _ := origin.Of(ctx)
	from.Actor.Kind = trail.ByNode
	if known {
		from.Actor.Name = r.ID
	}
	from.Actor.Name = cmp.Or(from.Actor.Name, "unregistered "+r.Role)
	return from
}

// checkOwnURL checks that the registering worker itself answers at its URL, if another worker is registered there. The
// other one is replaced then. Only the registering worker accepts the token that it registers with.
func (n *Node) checkOwnURL(ctx context.Context, v masterfsm.View, c *masterfsm.Register) error {
	other := ""
	for i := range v.Storages {
		if s := &v.Storages[i]; s.URL == c.URL && s.ID != c.ID {
			other = s.ID
		}
	}
	for i := range v.Miners {
		if m := &v.Miners[i]; m.URL == c.URL && m.ID != c.ID {
			other = m.ID
		}
	}
	if other == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	order := orderOf(v)
	itself := wire.Worker{
		URL: c.URL, Token: c.MasterToken, Miner: c.Role == masterfsm.RoleMiner, Older: c.Level < masterfsm.LevelProofs,
	}
	var err error
	if c.Role == masterfsm.RoleStorage {
		_, err = n.cfg.Workers.StorageStatus(ctx, itself, order)
	} else {
		_, err = n.cfg.Workers.MinerStatus(ctx, itself, order)
	}
	if err != nil { // not wrapped: what the other worker refuses is not the answer to this one
		return fmt.Errorf("%w: worker %s is registered at %s, and the one that registers there does not answer: %v; "+
			"give each worker a URL of its own (--advertise)",
			wire.ErrBadRequest, other, c.URL, err)
	}
	return nil
}

// ReportFailedSync enters a failed sync of a node's data folder into the table. Any master brings a report to the
// leader; forwarded means that another master already did. Errors: masterfsm.ErrBadCommand, masterfsm.ErrUnknownNode,
// wire.ErrNoLeader, wire.ErrOtherGroup, wire.ErrForbidden, wire.ErrBadRequest.
func (n *Node) ReportFailedSync(ctx context.Context, f wire.FailedSync, forwarded bool) error {
	if err := n.checkReporter(f.ID, f.Group); err != nil {
		return err
	}
	if forwarded {
		return n.reportFailedSync(ctx, f)
	}
	_, err := leaderCall[struct{}]{
		local: func(ctx context.Context) (struct{}, error) { return struct{}{}, n.reportFailedSync(ctx, f) },
		remote: func(ctx context.Context, url string) (struct{}, error) {
			f := f
			if n.cfg.Ledger.Level() < masterfsm.LevelJoining {
				f.AccessToken = "" // a leader of an older version would refuse it
			}
			return struct{}{}, n.cfg.Masters.ReportFailedSync(ctx, url, f, true)
		},
		again: anotherTry,
	}.do(ctx, n)
	return err
}

// reportFailedSync is ReportFailedSync on the leader. The error wraps wire.ErrNotLeader if this master does not lead.
func (n *Node) reportFailedSync(ctx context.Context, f wire.FailedSync) error {
	if !n.leader.Leads() {
		return errTermNotBegun
	}
	var level uint64
	n.cfg.Ledger.Read(func(s *masterfsm.State) { level = s.Level() })
	if level < masterfsm.LevelFailedSyncs { // older masters do not know the command
		return fmt.Errorf("%w: the masters remember failed syncs from protocol level %d on, the group is at %d",
			masterfsm.ErrBadCommand, masterfsm.LevelFailedSyncs, level)
	}
	if err := n.checkFailedSyncReport(f); err != nil {
		return err
	}
	detail := strings.ToValidUTF8(f.Detail[:min(len(f.Detail), 512)], "")
	c := &masterfsm.ReportFailedSync{ID: f.ID, Kernel: f.Kernel, Detail: detail, Over: f.Over, Time: n.leader.Now()}
	_, err := n.leader.Propose(ctx, c)
	if f.Over && errors.Is(err, masterfsm.ErrStale) {
		err = nil
	}
	return err
}

// checkFailedSyncReport refuses a report about a worker that is not its own, from protocol level 7 on: the access token
// proves that. It also refuses one without a kernel that is not proven: such a report forbids every kernel.
func (n *Node) checkFailedSyncReport(f wire.FailedSync) error {
	var level uint64
	var recorded chain.Hash
	var worker bool
	n.cfg.Ledger.Read(func(s *masterfsm.State) {
		v := s.View()
		level = v.Level
		if w := v.Storage(f.ID); w.ID != "" {
			recorded, worker = w.AccessHash, true
		} else if w := v.Miner(f.ID); w.ID != "" {
			recorded, worker = w.AccessHash, true
		}
	})
	proven := f.AccessToken != "" && sameHash(recorded, sha256.Sum256([]byte(f.AccessToken)))
	switch {
	case worker && !proven && level >= masterfsm.LevelJoining:
		return fmt.Errorf("%w: a failed sync of %s is reported with the access token of that node only: start it with "+
			"the version of ChainStore of the masters", wire.ErrForbidden, f.ID)
	case f.Kernel == "" && !f.Over && !proven:
		return fmt.Errorf("%w: a failed sync of %s is reported without the boot id of its kernel", wire.ErrBadRequest,
			f.ID)
	}
	return nil
}

// checkFailedSync compares what the table has of a failed sync of this master's folder with the kernel that runs now.
// If it is over, the table gets to know that. The error wraps [wire.ErrFailedSync] if this master must stop. After a
// start this master's table may be behind, and not yet know that an operator overrode the failed sync. So the leader
// confirms that the table is current before this master stops; without a leader, the next call asks again.
func (n *Node) checkFailedSync(ctx context.Context) error {
	f, forbidden := n.ownFailedSync()
	if forbidden {
		if err := n.confirm(ctx); err != nil {
			n.log.Debug("no leader confirms that a failed sync of this master is not over", "error", err)
			return nil
		}
		f, forbidden = n.ownFailedSync()
	}
	switch {
	case f.ID == "":
		return nil
	case forbidden:
		return fmt.Errorf("%w since the machine was started, according to the table: %s", wire.ErrFailedSync, f.Detail)
	}
	err := n.ReportFailedSync(ctx, wire.FailedSync{
		ID: f.ID, Kernel: n.cfg.Kernel, Over: true, Group: n.Member().Group,
	}, false)
	if err != nil {
		n.log.Warn("the table does not know yet that a failed sync is over", "error", err)
	}
	return nil
}

// ownFailedSync returns the failed sync of this master's folder in the table, and whether it forbids this start.
func (n *Node) ownFailedSync() (f masterfsm.FailedSync, forbidden bool) {
	n.cfg.Ledger.Read(func(s *masterfsm.State) { f = s.FailedSyncOf(n.cfg.Member.ID) })
	return f, f.Forbids(n.cfg.Kernel) && !n.cfg.AfterFailedSync
}

// orderOf returns the order of the leader that the table has.
func orderOf(v masterfsm.View) wire.Order {
	return wire.Order{Epoch: v.Group.Epoch, Term: v.Term.Term}
}

// entered reports whether the table has the worker of a registration, and whether the registration has no news.
func entered(v masterfsm.View, c *masterfsm.Register) (known, upToDate bool) {
	switch c.Role {
	case masterfsm.RoleStorage:
		if s := v.Storage(c.ID); s.ID != "" && sameHash(s.AccessHash, c.AccessHash) {
			return true, s.URL == c.URL && s.MasterToken == c.MasterToken && s.Boot == c.Boot &&
				s.Lists == c.Lists && s.Level == c.Level
		}
	case masterfsm.RoleMiner:
		if m := v.Miner(c.ID); m.ID != "" && sameHash(m.AccessHash, c.AccessHash) {
			// At protocol level 0 the table has no starts of miners.
			sameStart := v.Level == 0 || m.Boot == c.Boot && m.Lists == c.Lists
			return true, m.URL == c.URL && m.MasterToken == c.MasterToken && m.Level == c.Level && sameStart
		}
	}
	return false, false
}

func sameHash(a, b chain.Hash) bool { return subtle.ConstantTimeCompare(a[:], b[:]) == 1 }

// Limits of what a registration may enter: each new worker and each new address leaves a record in the audit trail for
// good. A worker gets addressBurst addresses at once, and one each addressPause after that. A source registers
// workerBurst new workers at once, and one each workerPause after that.
const (
	addressBurst = 10
	addressPause = time.Minute
	workerBurst  = 64
	workerPause  = 10 * time.Second

	maxEntrants = 4096 // that are remembered; one that is forgotten begins with all of its burst
)

// registerLimit bounds how often workers enter new addresses through this leader. The zero value is ready. Its methods
// may be called by many goroutines.
type registerLimit struct {
	mu     sync.Mutex // guards the fields below
	used   map[string]*list.Element
	recent list.List // of *entrant, the one that was used last at the front
}

// entrant is a worker or a source. until is when it has all of its burst again.
type entrant struct {
	name  string
	until time.Time
}

// take counts a registration that enters something new: an address of a known worker, or a new worker from a source.
// The error wraps wire.ErrTooManyRequests if there were too many.
func (l *registerLimit) take(known bool, worker, source string, now time.Time) error {
	name, what, burst, pause := "worker "+worker, "addresses of this worker", addressBurst, addressPause
	if !known {
		name, what, burst, pause = "source "+network(source), "new workers from this address", workerBurst, workerPause
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.entrantOf(name)
	if r.until.Before(now) {
		r.until = now
	}
	if r.until.Sub(now) > time.Duration(burst-1)*pause {
		return fmt.Errorf("%w: %d %s are entered at once, and one each %v after that", wire.ErrTooManyRequests, burst,
			what, pause)
	}
	r.until = r.until.Add(pause)
	return nil
}

// entrantOf returns the entrant of a name. The caller holds mu.
func (l *registerLimit) entrantOf(name string) *entrant {
	if e := l.used[name]; e != nil {
		l.recent.MoveToFront(e)
		return e.Value.(*entrant)
	}
	if l.used == nil {
		l.used = map[string]*list.Element{}
	}
	if l.recent.Len() >= maxEntrants {
		delete(l.used, l.recent.Remove(l.recent.Back()).(*entrant).name)
	}
	r := &entrant{name: name}
	l.used[name] = l.recent.PushFront(r)
	return r
}

// network returns the address for which a source counts: of IPv6 its network of 64 bits.
func network(source string) string {
	addr, err := netip.ParseAddr(source)
	if addr = addr.Unmap().WithZone(""); err != nil || !addr.Is6() {
		return addr.String()
	}
	prefix, _ := addr.Prefix(64)
	return prefix.String()
}
