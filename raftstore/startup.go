package raftstore

import (
	"context"
	"errors"
	"fmt"

	"github.com/hashicorp/raft"

	"github.com/chainstore/chainstore/raftstore/transport"
	"github.com/chainstore/chainstore/raftstore/tune"
)

// begin starts raft for the group that the identity names, after finishing its founding.
func (s *Store) begin() error {
	config := tune.Raft(s.identity.ID, s.cfg.Timeout, s.log.Named("raft"))
	s.lead.notify = make(chan bool, 16)
	config.NotifyCh = s.lead.notify
	trans := raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream: s.stream, MaxPool: tune.MaxPool, MaxRPCsInFlight: tune.MaxRPCsInFlight, Timeout: tune.RPCTimeout,
		Logger: config.Logger,
	})
	s.tasks.Go(s.drainNotices)
	var r *raft.Raft
	err := s.fail.guard(func() (err error) {
		if err := s.checkFolder(); err != nil {
			return err
		}
		if err := s.bootstrap(config, trans); err != nil {
			return err
		}
		r, err = raft.NewRaft(config, s.machine, s.logs, s.votes, s.snaps, trans)
		return err
	})
	if err != nil {
		if r != nil {
			err = errors.Join(err, r.Shutdown().Error())
		}
		err = fmt.Errorf("start of raft in %s: %w", s.cfg.Dir, errors.Join(err, trans.Close()))
		s.fail.report(err)
		return err
	}
	s.raft.Store(r)
	s.meetPeers(r)
	s.observe(r)
	s.tasks.Go(func() { s.takeSnapshots(r) })
	s.tasks.Go(func() { s.confirmReads(r) })
	s.tasks.Go(func() { s.watchLeader(r) })
	s.tasks.Go(func() { s.keepLease(r) })
	s.tasks.Go(func() { s.keepStarts(r) })
	s.changed.tell()
	s.leaderChanged.tell()
	return nil
}

// meetPeers tells the peers of this start before connections are for raft: this master neither votes nor acknowledges anything before it has
// heard from each peer that it reaches that its data folder is not an older copy. It needs no leader and no peer.
func (s *Store) meetPeers(r *raft.Raft) {
	group := s.identity.handshakeGroup()
	s.stream.Announce(group)
	ctx, cancel := context.WithTimeout(context.Background(), firstAnnounce)
	defer cancel()
	s.announceToAll(ctx, r)
	if s.Refused() == nil {
		s.stream.Open(group)
	}
}

// keyTerm is raft's name of the current term in the stable store.
const keyTerm = "CurrentTerm"

// bootstrap writes what raft needs for its first start, and notes that it is done: the first configuration of a group that this master was
// founded with, and a term.
func (s *Store) bootstrap(config *raft.Config, trans raft.Transport) error {
	if s.identity.Begun {
		return nil
	}
	if err := s.bootstrapRaft(config, trans); err != nil {
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

func (s *Store) bootstrapRaft(config *raft.Config, trans raft.Transport) error {
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
			Suffrage: raft.Voter, ID: raft.ServerID(m.ID), Address: transport.ServerAddress(m.ID, m.Raft),
		})
	}
	return raft.BootstrapCluster(config, s.logs, s.votes, s.snaps, trans, configuration)
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
