package raftstore

import (
	"context"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/raftstore/transport"
)

const (
	firstAnnounce    = time.Second            // for all peers at the start, before raft's connections
	lastAnnounce     = 500 * time.Millisecond // for all peers at the stop
	announceTime     = time.Second            // for one peer
	announcePause    = time.Second            // between two attempts with one peer
	announceInterval = 250 * time.Millisecond // between two checks for peers that lack the present start
)

// announcer announces the start of this master to its peers, so that none of them accepts an older copy of its data
// folder. It belongs to the goroutine of runAnnouncer.
type announcer struct {
	store *Store
	raft  *raft.Raft

	next    map[string]time.Time // when the next attempt with a peer is due
	renewed time.Time            // when the start was renewed last
	applied uint64               // what was applied then
}

// announceToAll announces the present start of this master to all peers that lack it, concurrently. It returns when
// each has answered or cannot be reached, or when ctx ends. Every peer that was reached has then reported whether this
// data folder is an older copy.
func (s *Store) announceToAll(ctx context.Context, r *raft.Raft) {
	if s.machine.level.Load() < masterfsm.LevelIdentities {
		return
	}
	var tasks sync.WaitGroup
	for _, server := range s.unannounced(r) {
		tasks.Go(func() { s.announceTo(ctx, server) })
	}
	tasks.Wait()
}

// unannounced returns the peers that are not known to have the present start.
func (s *Store) unannounced(r *raft.Raft) (peers []raft.Server) {
	for _, server := range r.GetConfiguration().Configuration().Servers {
		if id := string(server.ID); id != s.id && !s.starts.AcceptedBy(id) {
			peers = append(peers, server)
		}
	}
	return peers
}

func (s *Store) announceTo(ctx context.Context, server raft.Server) {
	ctx, cancel := context.WithTimeout(ctx, announceTime)
	defer cancel()
	member, hostPort, err := transport.SplitAddress(server.Address)
	if err == nil {
		err = s.stream.AnnounceTo(ctx, member, hostPort, false)
	}
	if err != nil {
		s.log.Debug("the start of this master was not announced to a peer", "member", server.ID, "error", err)
	}
}

// runAnnouncer announces this master's start to peers, renews it while the state changes, and records the group's
// protocol level, until the store ends.
func (s *Store) runAnnouncer(r *raft.Raft) {
	a := &announcer{
		store: s, raft: r, next: map[string]time.Time{}, renewed: time.Now(), applied: s.machine.appliedIndex(),
	}
	for s.pause(announceInterval) {
		if s.Refused() != nil {
			return
		}
		if err := s.recordLevel(); err != nil {
			return // it was reported
		}
		if s.machine.level.Load() < masterfsm.LevelIdentities {
			continue
		}
		if err := a.update(time.Now()); err != nil {
			s.fail.report(startsError(err))
			return
		}
		a.announce(time.Now())
	}
}

// update renews the start where that is due, and forgets the starts of removed members.
func (a *announcer) update(now time.Time) error {
	s := a.store
	if applied := s.machine.appliedIndex(); applied != a.applied && now.Sub(a.renewed) >= s.cfg.RenewEvery {
		if err := s.starts.Renew(); err != nil {
			return err
		}
		a.renewed, a.applied = now, applied
	}
	return s.starts.Forget(func(id string) (removed bool) {
		s.machine.read(func(state *masterfsm.State) { removed = state.MasterRemoved(id) })
		return removed
	})
}

// announce announces the start to the peers that lack it and are due.
func (a *announcer) announce(now time.Time) {
	var tasks sync.WaitGroup
	for _, server := range a.store.unannounced(a.raft) {
		id := string(server.ID)
		if now.Before(a.next[id]) {
			continue
		}
		a.next[id] = now.Add(announcePause)
		tasks.Go(func() { a.store.announceTo(context.Background(), server) })
	}
	tasks.Wait()
}

// recordLevel records the group's protocol level in the identity once it has risen: at the next start the handshake
// needs it before the state is read.
func (s *Store) recordLevel() error {
	level := s.machine.level.Load()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.identity.Level >= level {
		return nil
	}
	if level >= masterfsm.LevelIdentities {
		// From this level on a folder without the file of starts does not open: it must exist first, even if no peer
		// has seen a start yet.
		if _, err := s.starts.Current(); err != nil {
			err = startsError(err)
			s.fail.report(err)
			return err
		}
	}
	next := s.identity
	next.Level = level
	return s.saveIdentity(next)
}

// renewLast renews the start before this master stops, and announces it to the peers. So they refuse a copy of the
// folder that was made while the master ran.
func (s *Store) renewLast(r *raft.Raft) {
	if s.machine.level.Load() < masterfsm.LevelIdentities || s.fail.get() != nil || s.Refused() != nil {
		return
	}
	if err := s.starts.Renew(); err != nil {
		s.log.Error("the last renewal of this master's start failed", "error", err)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), lastAnnounce)
	defer cancel()
	s.announceToAll(ctx, r)
}
