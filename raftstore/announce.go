package raftstore

import (
	"context"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/chainstore/chainstore/internal/durable"
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

// announce announces the present start of this master to the peers that lack it and that are due, concurrently. So none
// of them accepts an older copy of its data folder. It returns when each has answered or cannot be reached, or when ctx
// ends. Every peer that was reached has then reported whether this data folder is an older copy.
func (s *Store) announce(ctx context.Context, r *raft.Raft, due func(id string) bool) {
	var tasks sync.WaitGroup
	for _, server := range r.GetConfiguration().Configuration().Servers {
		if id := string(server.ID); id != s.id && !s.starts.AcceptedBy(id) && due(id) {
			tasks.Go(func() { s.announceTo(ctx, server) })
		}
	}
	tasks.Wait()
}

func anyPeer(string) bool { return true }

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
	attempts := map[string]time.Time{} // the last one with each peer
	renewed, applied := time.Now(), s.machine.appliedIndex()
	for s.pause(announceInterval) {
		if s.Refused() != nil {
			return
		}
		if err := s.recordLevel(); durable.CanRetry(err) {
			continue
		} else if err != nil {
			return // it was reported
		}
		if s.machine.level.Load() < masterfsm.LevelIdentities {
			continue
		}
		now, index := time.Now(), s.machine.appliedIndex()
		err := s.starts.Forget(s.isRemoved)
		if err == nil && index != applied && now.Sub(renewed) >= s.cfg.RenewEvery {
			err = s.starts.Renew()
			renewed, applied = now, index
		}
		if s.reportStarts(err) != nil {
			return
		}
		s.announce(context.Background(), r, func(id string) bool {
			due := now.Sub(attempts[id]) >= announcePause
			if due {
				attempts[id] = now
			}
			return due
		})
	}
}

// reportStarts reports that the file of starts could not be written. It returns nil if that can be tried again.
func (s *Store) reportStarts(err error) error {
	if err == nil {
		return nil
	}
	if durable.CanRetry(err) {
		s.log.Warn("the starts of this master cannot be written now", "error", err)
		return nil
	}
	s.fail.report(startsError(err))
	return err
}

// isRemoved reports whether the group has removed a member.
func (s *Store) isRemoved(id string) (removed bool) {
	s.machine.read(func(state *masterfsm.State) { removed = state.MasterRemoved(id) })
	return removed
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
			_ = s.reportStarts(err)
			return startsError(err)
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
		_ = s.reportStarts(err)
		s.log.Error("the last renewal of this master's start failed", "error", err)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), lastAnnounce)
	defer cancel()
	s.announce(ctx, r, anyPeer)
}
