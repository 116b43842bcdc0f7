package masternode

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/chainstore/chainstore/internal/joining"
	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/masternode/leader"
	"github.com/chainstore/chainstore/wire"
)

// answerTime is how long a master may take to answer before it counts as absent.
const answerTime = time.Second

// Announce adds a master to the group, or updates it. A new master becomes a member without a vote. A master that has
// moved gets its new addresses. A new master at the address of an old one that does not answer replaces it permanently:
// the old one's disk was wiped, or its machine replaced. From protocol level 7 on a new master needs a join ticket, an
// announcement is signed with the master's key, and a master that has a key is replaced only after it was removed. Any
// master brings an announcement to the leader; forwarded means that another master already did. It may be repeated.
// Errors: wire.ErrBadRequest, wire.ErrOtherGroup, wire.ErrTooFewMasters, wire.ErrNoLeader, wire.ErrRemoved,
// masterfsm.ErrMasterRemoved, joining.ErrBadProof, wire.ErrOtherKey, wire.ErrTicketNeeded, wire.ErrTicketRefused,
// masterfsm.ErrOlderStart. This master signs that another one was removed if it knows that itself: see
// [wire.RemovedError].
func (n *Node) Announce(ctx context.Context, m wire.Member, forwarded bool) (wire.Announced, error) {
	answer, err := n.announced(ctx, m, forwarded)
	if own := n.Member(); errors.Is(err, wire.ErrRemoved) && !n.cfg.Key.IsZero() && n.knowsRemoved(own, m) {
		err = &wire.RemovedError{Master: own.ID, Epoch: own.Epoch, Err: err,
			Signature: n.Sign(joining.Removal(own.Group, own.Epoch, own.ID, m.ID, m.Epoch))}
	}
	return answer, err
}

// knowsRemoved reports whether a master is of before a recovery of the group, or was removed by its own table. What
// another master says of it is passed on as it is: it may not be true.
func (n *Node) knowsRemoved(own, m wire.Member) (removed bool) {
	n.cfg.Ledger.Read(func(s *masterfsm.State) { removed = s.MasterRemoved(m.ID) })
	return removed || m.Group == own.Group && m.Epoch < own.Epoch
}

func (n *Node) announced(ctx context.Context, m wire.Member, forwarded bool) (wire.Announced, error) {
	m.URL = strings.TrimRight(m.URL, "/")
	if err := checkAnnouncement(m); err != nil {
		return wire.Announced{}, err
	}
	if err := n.checkGroup(m); err != nil {
		return wire.Announced{}, err
	}
	if forwarded {
		return n.admit(ctx, m)
	}
	return leaderCall[wire.Announced]{
		local: func(ctx context.Context) (wire.Announced, error) { return n.admit(ctx, m) },
		remote: func(ctx context.Context, url string) (wire.Announced, error) {
			m := m
			var level uint64
			if n.cfg.Ledger.Read(func(s *masterfsm.State) { level = s.Level() }); level < masterfsm.LevelJoining {
				m.Proof = nil // a leader of an older version would refuse it
			}
			return n.cfg.Masters.Announce(ctx, url, m, true)
		},
		again: anotherTry,
	}.do(ctx, n)
}

// Sign signs a message with the key of this master; "" without one. The message begins with a label of its own.
func (n *Node) Sign(message []byte) string { return n.cfg.Key.Sign(message) }

// Signed reports whether a master has signed a message with the key that the table has of it. It is true below protocol
// level 7, and for a member whose key is not recorded yet.
func (n *Node) Signed(member string, message []byte, signature string) bool {
	var level uint64
	var m masterfsm.Master
	n.cfg.Ledger.Read(func(s *masterfsm.State) {
		v := s.View()
		level, m = v.Level, v.Master(member)
	})
	return level < masterfsm.LevelJoining || m.ID != "" && m.Key == "" || joining.Signed(m.Key, message, signature)
}

func checkAnnouncement(m wire.Member) error {
	u, err := url.Parse(m.URL)
	host, port, splitErr := net.SplitHostPort(m.Raft)
	switch {
	case m.ID == "" || len(m.ID) > 255 || strings.Contains(m.ID, "@"):
		return fmt.Errorf("%w: %q is no id of a master", wire.ErrBadRequest, m.ID)
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return fmt.Errorf("%w: %q is no address of a master; one is written http://host:port",
			wire.ErrBadRequest, m.URL)
	case splitErr != nil || host == "" || port == "" || port == "0":
		return fmt.Errorf("%w: %q is no raft address; one is written host:port", wire.ErrBadRequest, m.Raft)
	}
	return nil
}

// checkGroup compares a master's group and epoch with this one's.
func (n *Node) checkGroup(m wire.Member) error {
	own := n.Member()
	switch {
	case own.Group == "":
		return fmt.Errorf("%w: this master is new itself", wire.ErrNoLeader)
	case m.Group != "" && m.Group != own.Group:
		return fmt.Errorf("%w: master %s at %s is of group %s, this is group %s",
			wire.ErrOtherGroup, m.ID, m.URL, m.Group, own.Group)
	case m.Group == own.Group && m.Epoch < own.Epoch:
		return fmt.Errorf("%w: the group was recovered without it: it is at epoch %d, the group at %d",
			masterfsm.ErrMasterRemoved, m.Epoch, own.Epoch)
	}
	n.checkEpoch(m)
	if m.Group == own.Group && m.Epoch > own.Epoch {
		return fmt.Errorf("%w: master %s is at epoch %d of the group, this master at epoch %d: the group was "+
			"recovered "+
			"without one of them", wire.ErrUnavailable, m.ID, m.Epoch, own.Epoch)
	}
	return nil
}

// admit adds or updates a member, on the leader. The table comes first: raft never gets what the table refuses.
func (n *Node) admit(ctx context.Context, m wire.Member) (wire.Announced, error) {
	if !n.leader.Leads() {
		return wire.Announced{}, errTermNotBegun
	}
	n.changing.Lock()
	defer n.changing.Unlock()
	own := n.Member()
	members, v := n.group()
	announced := m // its signature covers the scheme that it knows
	m.URL, own.URL = v.TLS.Step.URL(m.URL), v.TLS.Step.URL(own.URL)
	if slices.Contains(v.RemovedMasters, m.ID) {
		return wire.Announced{}, fmt.Errorf("%w: %s", masterfsm.ErrMasterRemoved, m.ID)
	}
	answer := wire.Announced{Group: own.Group, Epoch: own.Epoch}
	if v.Level >= masterfsm.LevelSegments { // older masters do not know the field
		answer.Level = v.Level
	}
	admitted, err := n.checkJoin(own, m, announced)
	if err != nil {
		return wire.Announced{}, err
	}
	if admitted.Key == "" {
		m.Proof = nil
	}
	if memberOf(members, v, m) {
		return answer, nil
	}
	if err := n.checkLevel(ctx, members, v, m); err != nil {
		return wire.Announced{}, err
	}
	if m.ID != own.ID && (m.URL == own.URL || m.Raft == own.Raft) {
		return wire.Announced{}, fmt.Errorf("%w: %s and %s are not both free: the leader has the URL %s "+
			"and the raft address %s",
			wire.ErrBadRequest, m.URL, m.Raft, own.URL, own.Raft)
	}
	if err := n.checkAnswers(ctx, m, v.Level); err != nil {
		return wire.Announced{}, err
	}
	admitted.Take = m.Group == own.Group && isConfigured(members, m.ID)
	if admitted.Take { // it may have moved
		err = n.checkAddress(ctx, m)
	} else {
		err = n.removeReplaced(ctx, members, v, m)
	}
	if err != nil {
		return wire.Announced{}, err
	}
	admitted.Time = n.leader.Now()
	if _, err := n.leader.Propose(ctx, admitted); err != nil {
		return wire.Announced{}, err
	}
	if err := n.cfg.Membership.AddMember(ctx, m); err != nil {
		return wire.Announced{}, err
	}
	n.log.Info("master admitted", "id", m.ID, "url", m.URL, "raft", m.Raft)
	return answer, nil
}

// checkJoin checks the proof of an announcement, and that the table would take it. It returns the command for it. m is
// the announcement with the scheme that URLs have in the table.
func (n *Node) checkJoin(own, m, announced wire.Member) (*masterfsm.AdmitMaster, error) {
	c := &masterfsm.AdmitMaster{ID: m.ID, URL: m.URL, Raft: m.Raft, Time: n.leader.Now()}
	var level uint64
	n.cfg.Ledger.Read(func(s *masterfsm.State) { level = s.Level() })
	if level < masterfsm.LevelJoining {
		return c, nil
	}
	if err := joining.Verify(own.Group, announced); err != nil {
		return nil, err
	}
	c.Key, c.Start = m.Proof.Key, m.Proof.Start
	if c.Founder = m.ID == own.ID; c.Founder {
		if err := n.checkOwn(own, m); err != nil {
			return nil, err
		}
	}
	if m.Proof.Ticket != nil && !c.Founder {
		hash, err := joining.TicketHash(m.Proof.Ticket.Key)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", joining.ErrBadProof, err)
		}
		c.Ticket = hash
	}
	var err error
	n.cfg.Ledger.Read(func(s *masterfsm.State) { err = s.CheckJoin(c) })
	return c, err
}

// checkLevel refuses a new master below protocol level 7 if all members know that level: the group reaches it in
// seconds, and from then on a new master needs a ticket. A new master of an older version would keep the group below.
// A member that does not answer counts as an older one.
func (n *Node) checkLevel(ctx context.Context, members []wire.Master, v masterfsm.View, m wire.Member) error {
	if v.Level >= masterfsm.LevelJoining || m.ID == n.cfg.Member.ID || isConfigured(members, m.ID) ||
		v.Master(m.ID).ID != "" || !n.allKnowJoining(ctx, members) {
		return nil
	}
	return fmt.Errorf("%w: master %s is new, and the group is at protocol level %d: it takes new masters from "+
		"level %d "+
		"on, which it reaches in seconds unless 'chainstore status' names a node that holds it back",
		wire.ErrUnavailable, m.ID, v.Level, masterfsm.LevelJoining)
}

// allKnowJoining reports whether every other member answers that it knows the protocol level of join tickets.
func (n *Node) allKnowJoining(ctx context.Context, members []wire.Master) bool {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	var older atomic.Bool
	var asking sync.WaitGroup
	for _, m := range members {
		if m.ID == n.cfg.Member.ID {
			continue
		}
		asking.Go(func() {
			there, err := n.cfg.Masters.Member(ctx, m.URL)
			if err != nil || there.ID != m.ID || there.Level < masterfsm.LevelJoining {
				older.Store(true)
			}
		})
	}
	asking.Wait()
	return !older.Load()
}

// checkOwn refuses an announcement with the id of this master, the leader, that is not its own of this start. Nobody is
// asked about that one.
func (n *Node) checkOwn(own, m wire.Member) error {
	switch {
	case m.Proof.Key != n.cfg.Key.Public():
		return &wire.OtherKeyError{Member: own.ID, Recorded: n.cfg.Key.Public(), Shown: m.Proof.Key}
	case m.URL != own.URL || m.Raft != own.Raft || m.Proof.Start != n.cfg.Boot:
		return fmt.Errorf("%w: the leader, master %s, announces %s and %s in its start %d, and this announcement has "+
			"%s and %s of start %d: it is a replay, or two processes run with its data folder",
			masterfsm.ErrOlderStart, own.ID, own.URL, own.Raft, n.cfg.Boot, m.URL, m.Raft, m.Proof.Start)
	}
	return nil
}

// isConfigured reports whether raft's configuration has a member.
func isConfigured(members []wire.Master, id string) bool {
	return slices.ContainsFunc(members, func(m wire.Master) bool { return m.ID == id })
}

// group returns the masters of raft's configuration, with their URLs, and the table.
func (n *Node) group() (members []wire.Master, v masterfsm.View) {
	n.cfg.Ledger.Read(func(s *masterfsm.State) { v = s.View() })
	members = n.cfg.Membership.Members()
	for i := range members {
		members[i].URL = v.Master(members[i].ID).URL
	}
	return members, v
}

// withTable adds the masters that only the table has: they were admitted, and the leader got no further.
func withTable(members []wire.Master, v masterfsm.View) []wire.Master {
	all := slices.Clone(members)
	for _, t := range v.Masters {
		if !slices.ContainsFunc(members, func(m wire.Master) bool { return m.ID == t.ID }) {
			all = append(all, wire.Master{ID: t.ID, URL: t.URL, Raft: t.Raft, State: "unknown"})
		}
	}
	return all
}

// checkAddress checks that a member answers at the raft address that it announces, and has raft dial it there. A wrong
// address may be that of another master.
func (n *Node) checkAddress(ctx context.Context, m wire.Member) error {
	if m.ID == n.cfg.Member.ID {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	if !n.cfg.Membership.Reaches(ctx, m.ID, m.Raft) {
		return fmt.Errorf("%w: the leader cannot reach master %s at the raft address that it gives, %s: see --raft "+
			"and --raft-advertise",
			wire.ErrBadRequest, m.ID, m.Raft)
	}
	n.cfg.Membership.UpdateAddress(m)
	return nil
}

// removeReplaced removes the masters that a new one replaces. It changes nothing if one of them is alive: then the new
// one's address is a mistake, or the other one has moved and not announced that yet. From protocol level 7 on an
// administrator removes the other one first: the new one may still be refused.
func (n *Node) removeReplaced(ctx context.Context, members []wire.Master, v masterfsm.View, m wire.Member) error {
	var gone []wire.Master
	for _, other := range withTable(members, v) {
		if other.ID == m.ID || other.URL != m.URL && other.Raft != m.Raft && v.Master(other.ID).Raft != m.Raft {
			continue
		}
		if v.Level >= masterfsm.LevelJoining {
			address := m.Raft
			if other.URL == m.URL {
				address = m.URL
			}
			return &wire.OtherKeyError{Member: other.ID, Recorded: v.Master(other.ID).Key, Shown: m.Proof.Key,
				Address: address}
		}
		if n.isAlive(ctx, other) {
			return fmt.Errorf("%w: master %s has the URL %q and the raft address %s, and lives: give this one "+
				"addresses of its own (--advertise, --raft, --raft-advertise), or remove the other first",
				wire.ErrBadRequest, other.ID, other.URL, other.Raft)
		}
		gone = append(gone, other)
	}
	for _, other := range gone {
		n.log.Warn("a new master replaces one at its address", "url", m.URL, "raft", m.Raft,
			"old", other.ID, "new", m.ID)
		if err := n.remove(ctx, members, other, false); err != nil {
			return err
		}
	}
	return nil
}

// isAlive reports whether a master answers with its id at its URL, or raft reaches it.
func (n *Node) isAlive(ctx context.Context, m wire.Master) bool {
	if m.ID == n.cfg.Member.ID {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	var answers, reached bool
	var asking sync.WaitGroup
	if m.URL != "" {
		asking.Go(func() {
			there, err := n.cfg.Masters.Member(ctx, m.URL)
			answers = err == nil && there.ID == m.ID
		})
	}
	asking.Go(func() { reached = n.cfg.Membership.Reaches(ctx, m.ID, "") })
	asking.Wait()
	return answers || reached
}

// memberOf reports whether raft and the table both have a master with these addresses, and with the key and start of
// its announcement.
func memberOf(members []wire.Master, v masterfsm.View, m wire.Member) bool {
	m.URL = v.TLS.Step.URL(m.URL)
	row := v.Master(m.ID)
	if m.Proof != nil && (row.Key != m.Proof.Key || row.Start != m.Proof.Start) {
		return false
	}
	return row.URL == m.URL && row.Raft == m.Raft &&
		slices.ContainsFunc(members, func(r wire.Master) bool { return r.ID == m.ID && r.Raft == m.Raft })
}

// checkAnswers checks that a master answers at its address and knows the group's protocol level. An announcement alone
// proves nothing. From protocol level 7 on the answer must have the key of the announcement: else the member itself
// answers, and another announces it.
func (n *Node) checkAnswers(ctx context.Context, m wire.Member, level uint64) error {
	if m.ID == n.cfg.Member.ID {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	there, err := n.cfg.Masters.Member(ctx, m.URL)
	switch {
	case err != nil:
		return fmt.Errorf("%w: the leader cannot reach the master at the address that it gives, %s: %w",
			wire.ErrBadRequest, m.URL, err)
	case there.ID != m.ID || there.Raft != m.Raft:
		return fmt.Errorf("%w: at %s answers master %s with raft address %s, not %s with %s",
			wire.ErrBadRequest, m.URL, there.ID, there.Raft, m.ID, m.Raft)
	}
	if err := leader.KnowsLevel(there, level); err != nil {
		return err
	}
	if level >= masterfsm.LevelJoining && there.Key != m.Proof.Key {
		return fmt.Errorf("%w: the announcement of master %s has the key %s, and the master that answers at %s has "+
			"%s: another process has announced it", wire.ErrOtherKey, m.ID, wire.KeyFingerprint(m.Proof.Key), m.URL,
			wire.KeyFingerprint(there.Key))
	}
	return nil
}
