package raftstore

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/chainstore/chainstore/masterfsm"
)

// Times of telling the peers the start of this master.
const (
	firstAnnounce = time.Second            // at the start, before connections are for raft: for peers that do not answer
	lastAnnounce  = 500 * time.Millisecond // at the stop
	announceTime  = time.Second            // for one peer
	announcePause = time.Second            // between two tries with one peer
	announceTick  = 250 * time.Millisecond // between two looks at what there is to tell
)

// announcer tells the peers the start of this master, so that none of them accepts an older copy of its data folder. The goroutine of
// keepStarts owns it.
type announcer struct {
	store *Store
	raft  *raft.Raft

	again   map[string]time.Time // when a peer may be tried again
	renewed time.Time            // when the start was renewed last
	applied uint64               // what was applied then
}

// tellPeers tells all peers the present start of this master at the same time, those that know it already left out. It ends when each has
// answered, or cannot be reached, or ctx ends. Before it returns, this master has heard from every peer that it reaches whether its
// data folder is an older copy.
func (s *Store) tellPeers(ctx context.Context, r *raft.Raft) {
	if s.machine.level.Load() < masterfsm.LevelIdentities {
		return
	}
	var telling sync.WaitGroup
	for _, server := range r.GetConfiguration().Configuration().Servers {
		if string(server.ID) != s.stream.self && !s.starts.knownTo(string(server.ID)) {
			telling.Go(func() { s.tellPeer(ctx, server) })
		}
	}
	telling.Wait()
}

// tellPeer tells one peer.
func (s *Store) tellPeer(ctx context.Context, server raft.Server) {
	ctx, cancel := context.WithTimeout(ctx, announceTime)
	defer cancel()
	member, hostPort, err := splitAddress(server.Address)
	if err == nil {
		conn, dialErr := s.stream.dialAnywhere(ctx, member, hostPort, purposeAnnounce)
		if err = dialErr; err == nil {
			_ = conn.Close() // it has told what it was opened for
		}
	}
	if err != nil {
		s.log.Debug("a peer was not told the start of this master", "member", server.ID, "error", err)
	}
}

// keepStarts keeps the peers told of this master's start, renews the start while the state changes, and writes down the group's protocol
// level, until the store ends.
func (s *Store) keepStarts(r *raft.Raft) {
	a := &announcer{store: s, raft: r, again: map[string]time.Time{}, renewed: time.Now(), applied: s.machine.appliedIndex()}
	for s.pause(s.stop, announceTick) {
		if s.Refused() != nil {
			return
		}
		if err := s.keepLevel(); err != nil {
			return // it was reported
		}
		if s.machine.level.Load() >= masterfsm.LevelIdentities {
			a.look(time.Now())
		}
	}
}

// look renews the start where that is due, and tells it the peers that do not know it.
func (a *announcer) look(now time.Time) {
	s := a.store
	if applied := s.machine.appliedIndex(); applied != a.applied && now.Sub(a.renewed) >= s.cfg.RenewEvery {
		if err := s.starts.renew(); err != nil {
			s.fail.report(err)
			return
		}
		a.renewed, a.applied = now, applied
	}
	gone := map[string]bool{}
	s.machine.read(func(state *masterfsm.State) {
		for _, id := range s.starts.members() {
			gone[id] = state.MasterRemoved(id)
		}
	})
	if err := s.starts.forget(func(id string) bool { return gone[id] }); err != nil {
		s.fail.report(err)
		return
	}
	ctx, cancel := context.WithCancel(s.stream.ctx)
	defer cancel()
	var telling sync.WaitGroup
	for _, server := range a.raft.GetConfiguration().Configuration().Servers {
		id := string(server.ID)
		if id == s.stream.self || s.starts.knownTo(id) || now.Before(a.again[id]) {
			continue
		}
		a.again[id] = now.Add(announcePause)
		telling.Go(func() { s.tellPeer(ctx, server) })
	}
	telling.Wait()
}

// keepLevel writes down the group's protocol level once it has risen: at the next start the handshake goes by it before the state is read.
func (s *Store) keepLevel() error {
	level := s.machine.level.Load()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.identity.Level >= level {
		return nil
	}
	if level >= masterfsm.LevelIdentities {
		// From this level on a folder without the list does not open: it must be there first, though no peer may have heard of a start.
		if _, err := s.starts.current(); err != nil {
			s.fail.report(err)
			return err
		}
	}
	next := s.identity
	next.Level = level
	return s.saveIdentity(next)
}

// lastRenewal renews the start before this master stops, and tells its peers: a copy that was made of the folder while it ran is then known
// to be older.
func (s *Store) lastRenewal(r *raft.Raft) {
	if s.machine.level.Load() < masterfsm.LevelIdentities || s.fail.get() != nil || s.Refused() != nil {
		return
	}
	if err := s.starts.renew(); err != nil {
		s.log.Error("the stop of this master is not written down", "error", err)
		return
	}
	ctx, cancel := context.WithTimeout(s.stream.ctx, lastAnnounce)
	defer cancel()
	s.tellPeers(ctx, r)
}

// ErrStaleFolder: this master's data folder is an older copy of itself, or a copy of one that another process has. What was voted and
// acknowledged since is not in it, so the master takes part in nothing.
var ErrStaleFolder = errors.New("the data folder is an older copy of itself, or another process has a copy of it")

// Refused is why this master takes part in nothing and must not serve: it wraps [ErrStaleFolder] and says how to rejoin. It is nil for a
// master that may.
func (s *Store) Refused() error {
	if err := s.refused.Load(); err != nil {
		return *err
	}
	return nil
}

// refuse ends this master's part in the group, because its data folder is an older copy. It is written down: no later start of the folder
// serves either.
func (s *Store) refuse(why error) {
	err := fmt.Errorf("%w (%w); this master neither votes nor acknowledges nor serves: make sure that no other process runs with this "+
		"folder or a copy of it, move %s away, and start with an empty folder, and --join with the URL of another master in place of --peers, so "+
		"that it joins as a new member", ErrStaleFolder, why, s.cfg.Dir)
	if !s.refused.CompareAndSwap(nil, &err) {
		return
	}
	s.log.Error("this master is refused", "error", err)
	s.stream.shut()
	s.lead.set(false)
	s.tasks.Go(func() {
		var down raft.Future
		if r := s.raft.Load(); r != nil {
			down = r.Shutdown()
		}
		s.mu.Lock()
		next := s.identity
		next.Stale = true
		saved := s.saveIdentity(next)
		s.mu.Unlock()
		if saved != nil {
			s.log.Error("the refusal is not written down", "error", saved)
		}
		if down != nil {
			if err := down.Error(); err != nil && !errors.Is(err, raft.ErrRaftShutdown) {
				s.log.Error("stop of raft", "error", err)
			}
		}
		s.news.tell()
	})
}
