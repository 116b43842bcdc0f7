package raftstore

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"

	"github.com/hashicorp/raft"

	"github.com/chainstore/chainstore/raftstore/tune"
	"github.com/chainstore/chainstore/wire"
)

// Found makes this master the founder of a group of members, of which it is one. The group exists when this returns;
// the other members are to be adopted. To found the same group once more does nothing. The error wraps [ErrOtherGroup]
// when this master has another.
func (s *Store) Found(group string, members []wire.Member) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.mayJoin(group); err != nil {
		return err
	}
	if s.identity.Group == group {
		return nil
	}
	if err := checkMembers(group, members, s.identity.ID); err != nil {
		return err
	}
	next := s.identity
	next.Group, next.Epoch, next.Founding = group, 1, slices.Clone(members)
	if err := s.saveIdentity(next); err != nil {
		return err
	}
	return s.begin()
}

// Founding are the members that the group was founded with, nil unless this master founded it or was adopted by its founder.
func (s *Store) Founding() []wire.Member {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.identity.Founding)
}

// Adopt makes this master part of a group, which it stays. Member is who is meant: the error wraps [ErrOtherMember] when
// that is not this one, and [ErrOtherGroup] when this master has another group. To be adopted once more does nothing.
//
// Founding are the members of [Store.Found] where the founder itself asks. They become the first entry of this master's log, as
// they are of the founder's: a founder that is lost at once leaves a group that knows its members.
func (s *Store) Adopt(group string, epoch uint64, member string, founding ...wire.Member) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if member != s.identity.ID {
		return fmt.Errorf("%w: %q, this is %q (a wiped data folder makes a new member)", ErrOtherMember, member, s.identity.ID)
	}
	if err := s.mayJoin(group); err != nil {
		return err
	}
	if s.identity.Group == group {
		return nil
	}
	if group == "" || epoch == 0 {
		return errors.New("a group needs an id and an epoch")
	}
	if len(founding) > 0 {
		if err := checkMembers(group, founding, s.identity.ID); err != nil {
			return err
		}
	}
	next := s.identity
	next.Group, next.Epoch, next.Founding = group, epoch, slices.Clone(founding)
	if err := s.saveIdentity(next); err != nil {
		return err
	}
	return s.begin()
}

// mayJoin reports what speaks against being part of a group. The lock is held.
func (s *Store) mayJoin(group string) error {
	s.gate.Lock()
	closing := s.closing
	s.gate.Unlock()
	if closing {
		return ErrClosed
	}
	if err := s.fail.get(); err != nil {
		return err
	}
	if own := s.identity.Group; own != "" && own != group {
		return fmt.Errorf("%w: %q, not %q", ErrOtherGroup, own, group)
	}
	return nil
}

func checkMembers(group string, members []wire.Member, self string) error {
	if group == "" || len(group) > 255 {
		return fmt.Errorf("a group id has 1 to 255 bytes, not %d", len(group))
	}
	seen := map[string]bool{}
	for _, m := range members {
		if _, _, err := net.SplitHostPort(m.Raft); err != nil {
			return fmt.Errorf("raft address of member %q: %w", m.ID, err)
		}
		if _, _, err := splitAddress(serverAddress(m.ID, m.Raft)); err != nil || len(m.ID) > 255 {
			return fmt.Errorf("%q is no member id", m.ID)
		}
		if seen[m.ID] || seen[m.Raft] {
			return fmt.Errorf("member %q at %s is listed twice", m.ID, m.Raft)
		}
		seen[m.ID], seen[m.Raft] = true, true
	}
	if !seen[self] {
		return fmt.Errorf("this master, %q, is not among the members", self)
	}
	return nil
}

// saveIdentity writes the identity down and takes it on. The lock is held.
func (s *Store) saveIdentity(id identity) error {
	defer s.dog.watch("write master.json in " + s.cfg.Dir)()
	if err := id.save(s.cfg.Dir); err != nil {
		err = diskError("write to "+s.cfg.Dir, err)
		s.fail.report(err)
		return err
	}
	s.identity = id
	return nil
}

// begin starts raft for the group that the identity names, after finishing its founding.
func (s *Store) begin() error {
	config := tune.Raft(s.identity.ID, s.cfg.Timeout, s.log.Named("raft"))
	s.lead.notify = make(chan bool, 16)
	config.NotifyCh = s.lead.notify
	transport := raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream: s.stream, MaxPool: tune.MaxPool, MaxRPCsInFlight: tune.MaxRPCsInFlight, Timeout: tune.RPCTimeout,
		Logger: config.Logger,
	})
	s.tasks.Go(s.drainNotices)
	var r *raft.Raft
	err := s.fail.guard(func() (err error) {
		if err := s.checkFolder(); err != nil {
			return err
		}
		if err := s.bootstrap(config, transport); err != nil {
			return err
		}
		r, err = raft.NewRaft(config, s.machine, s.logs, s.votes, s.snaps, transport)
		return err
	})
	if err != nil {
		if r != nil {
			err = errors.Join(err, r.Shutdown().Error())
		}
		err = fmt.Errorf("start of raft in %s: %w", s.cfg.Dir, errors.Join(err, transport.Close()))
		s.fail.report(err)
		return err
	}
	s.raft.Store(r)
	s.meetPeers(r)
	s.observe(r)
	s.tasks.Go(func() { s.takeSnapshots(r) })
	s.tasks.Go(func() { s.confirmReads(r) })
	s.tasks.Go(func() { s.watchLeader(r) })
	s.tasks.Go(func() { s.keepPulse(r) })
	s.tasks.Go(func() { s.keepStarts(r) })
	s.news.tell()
	return nil
}

// meetPeers tells the peers of this start before connections are for raft: this master neither votes nor acknowledges anything before it has
// heard from each peer that it reaches that its data folder is not an older copy. It needs no leader and no peer.
func (s *Store) meetPeers(r *raft.Raft) {
	group := s.identity.handshakeGroup()
	s.stream.announce(group)
	ctx, cancel := context.WithTimeout(s.stream.ctx, firstAnnounce)
	defer cancel()
	s.tellPeers(ctx, r)
	if s.Refused() == nil {
		s.stream.open(group)
	}
}

// keyTerm is raft's name of the current term in the stable store.
const keyTerm = "CurrentTerm"

// bootstrap writes what raft needs for its first start, and notes that it is done: the first configuration of a group that this master was
// founded with, and a term.
func (s *Store) bootstrap(config *raft.Config, transport raft.Transport) error {
	if s.identity.Begun {
		return nil
	}
	if err := s.bootstrapRaft(config, transport); err != nil {
		return err
	}
	if _, err := s.votes.GetUint64([]byte(keyTerm)); errors.Is(err, errNoValue) {
		if err := s.votes.SetUint64([]byte(keyTerm), 0); err != nil {
			return err
		}
	}
	begun := s.identity
	begun.Begun = true
	return s.saveIdentity(begun)
}

func (s *Store) bootstrapRaft(config *raft.Config, transport raft.Transport) error {
	if len(s.identity.Founding) == 0 {
		return nil
	}
	last, err := s.logs.LastIndex()
	if err != nil {
		return err
	}
	list, err := s.snaps.List()
	if err != nil {
		return err
	}
	if last > 0 || len(list) > 0 {
		return nil
	}
	// Raft writes the term before the configuration and takes a term for a sign that all is done.
	if err := s.votes.SetUint64([]byte(keyTerm), 0); err != nil {
		return err
	}
	var configuration raft.Configuration
	for _, m := range s.identity.Founding {
		configuration.Servers = append(configuration.Servers, raft.Server{
			Suffrage: raft.Voter, ID: raft.ServerID(m.ID), Address: serverAddress(m.ID, m.Raft),
		})
	}
	return raft.BootstrapCluster(config, s.logs, s.votes, s.snaps, transport, configuration)
}

// checkFolder reports what raft must not start with: it would vote and answer as if it had never known what is gone.
func (s *Store) checkFolder() error {
	if err := s.votes.check(s.identity); err != nil {
		return err
	}
	if err := s.snaps.checkAll(); err != nil {
		return err
	}
	return s.checkGap()
}

// checkGap reports a log that does not begin where the newest snapshot ends.
func (s *Store) checkGap() error {
	first, err := s.logs.FirstIndex()
	if err != nil {
		return err
	}
	list, err := s.snaps.List()
	if err != nil {
		return err
	}
	var snapshot uint64
	if len(list) > 0 {
		snapshot = list[0].Index
	}
	if first > snapshot+1 {
		return diskError(s.logs.name, fmt.Errorf("the log begins at entry %d, the newest snapshot ends at %d", first, snapshot))
	}
	return nil
}
