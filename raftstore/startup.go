package raftstore

import (
	"context"
	"errors"
	"fmt"

	"github.com/hashicorp/raft"

	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/raftstore/raftconfig"
	"github.com/chainstore/chainstore/raftstore/transport"
)

// startRaft starts raft for the group that the identity names. It finishes the founding first. The caller holds mu.
func (s *Store) startRaft() error {
	log := raftconfig.QuietAtEnd(s.log.Named("raft"), s.ending)
	config := raftconfig.New(s.identity.ID, s.cfg.Timeout, log)
	s.leadership.notify = make(chan bool, 16)
	s.leadership.contact.known = s.cfg.suspended()
	s.leadership.contact.gap = leaseGap * s.cfg.Timeout
	config.NotifyCh = s.leadership.notify
	trans := transport.NewInbound(raftconfig.Transport(log), s.stream, s.cfg.Reserved)
	group := s.identity.Group
	s.snaps.arrivals = arrivals{
		group: func() string { return group }, abort: s.stream.CloseRequests, installed: s.logs.installed,
	}
	s.logs.applied = s.machine.appliedIndex
	s.logs.follows = func() bool {
		r := s.raft.Load()
		return r != nil && r.State() != raft.Leader
	}
	s.tasks.Go(s.readNotifications)
	var r *raft.Raft
	err := s.fail.guard(func() (err error) {
		if err := s.checkFolder(); err != nil {
			return err
		}
		if err := s.encrypt(); err != nil {
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
	s.announceBeforeRaft(r)
	s.observe(r)
	s.tasks.Go(func() { s.takeSnapshots(r) })
	s.tasks.Go(func() { s.confirmReads(r) })
	s.tasks.Go(func() { s.watchLeader(r) })
	s.tasks.Go(func() { s.renewLeases(r) })
	s.tasks.Go(func() { s.runAnnouncer(r) })
	s.tasks.Go(s.followKeys)
	s.changed.notify()
	s.leaderChanged.notify()
	return nil
}

// ending reports whether raft is being ended by Close or by a refusal. Its errors are of no interest then. After a
// failure they are: one that happens while the store is being closed is reported as any other.
func (s *Store) ending() bool {
	if s.fail.get() != nil {
		return false
	}
	select {
	case <-s.closed:
		return true
	default:
		return s.Refused() != nil
	}
}

// announceBeforeRaft announces this start to the peers, and then opens the stream for raft. So this master neither
// votes nor acknowledges before each peer that it reaches has confirmed that its data folder is not an older copy. It
// needs no leader, and does not wait for peers that do not answer.
func (s *Store) announceBeforeRaft(r *raft.Raft) {
	group := s.identity.handshakeGroup()
	s.stream.OpenForAnnouncements(group)
	if s.machine.level.Load() >= masterfsm.LevelIdentities {
		ctx, cancel := context.WithTimeout(context.Background(), firstAnnounce)
		defer cancel()
		s.announce(ctx, r, anyPeer)
	}
	if s.Refused() == nil {
		s.stream.Open(group)
	}
}

// keyTerm is raft's name for the current term in the stable store.
const keyTerm = "CurrentTerm"

// bootstrap writes what raft needs for its first start: the first configuration, if this master is a founding member,
// and a term. Then it records in the identity that this is done.
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
	if last > 0 || s.snaps.newest().index > 0 {
		return nil
	}
	// Raft writes the term before the configuration. If it finds a term, it assumes that both exist.
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

// checkFolder returns an error for a folder that has lost data. Raft must not start with it: it would vote and answer
// as if it had never had the lost data.
func (s *Store) checkFolder() error {
	if err := s.checkVotes(); err != nil {
		return err
	}
	if err := s.snaps.checkAll(); err != nil {
		return err
	}
	// The log must not begin behind the end of the newest snapshot.
	first, err := s.logs.FirstIndex()
	if err != nil {
		return err
	}
	if snapshot := s.snaps.newest().index; first > snapshot+1 {
		return diskError(s.logs.name,
			fmt.Errorf("the log begins at entry %d, the newest snapshot ends at %d: %s", first, snapshot,
				raftconfig.Remedy))
	}
	if err := s.logs.dropUnmatched(); err != nil { // an earlier version, or a kill, may have kept them
		return err
	}
	return s.checkVotes()
}

// checkUnused returns an error if the folder of a master without a group has data of one. master.json is then older
// than the other files. Without this check, raft would find the data only after a leader had admitted this master.
func (s *Store) checkUnused() error {
	last, err := s.logs.LastIndex()
	if err != nil {
		return err
	}
	_, err = s.votes.GetUint64([]byte(keyTerm))
	if err != nil && !errors.Is(err, errNoValue) {
		return err
	}
	if last == 0 && err != nil && s.snaps.newest().index == 0 {
		return nil
	}
	return diskError(s.cfg.Dir, fmt.Errorf("master.json names no group, and the folder has data of one: put the newer "+
		"master.json back, or %s", raftconfig.Remedy))
}

// ErrStaleFolder: this master's data folder is an older copy of itself, or a copy of one that another process has. It
// lacks later votes and acknowledged entries, so the master takes no part in the group.
var ErrStaleFolder = errors.New("the data folder is an older copy of itself, or another process has a copy of it")

// Refused returns an error if this master takes no part in the group and must not serve. The error wraps
// [ErrStaleFolder] and says how to rejoin.
func (s *Store) Refused() error {
	if err := s.refused.Load(); err != nil {
		return *err
	}
	return nil
}

// refuse ends this master's part in the group, because its data folder is an older copy. The refusal is recorded in the
// identity, so no later start of the folder serves either.
func (s *Store) refuse(why error) {
	err := fmt.Errorf("%w (%w); this master neither votes nor acknowledges nor serves: make sure that no other "+
		"process runs with this folder or a copy of it, move %s away, and start with an empty folder, a join "+
		"ticket, and --join with the URL of another master in place of --peers, so that it joins as a new member",
		ErrStaleFolder, why, s.cfg.Dir)
	if !s.refused.CompareAndSwap(nil, &err) {
		return
	}
	s.log.Error("this master is refused", "error", err)
	s.stream.Disable()
	s.leadership.set(false, s.cfg.suspended())
	s.tasks.Go(func() {
		down := s.shutDownRaft()
		s.mu.Lock()
		next := s.identity
		next.Stale = true
		saved := s.saveIdentity(next)
		s.mu.Unlock()
		if saved != nil {
			s.log.Error("the refusal is not recorded", "error", saved)
			s.fail.report(saved) // no resource was free to record it: the process must not go on as if it were
		}
		if err := down(); err != nil && !errors.Is(err, raft.ErrRaftShutdown) {
			s.log.Error("stop of raft", "error", err)
		}
		s.leaderChanged.notify()
	})
}

// shutDownRaft begins the shutdown of raft if it runs. down waits for its end.
func (s *Store) shutDownRaft() (down func() error) {
	if r := s.raft.Load(); r != nil {
		return r.Shutdown().Error
	}
	return func() error { return nil }
}
