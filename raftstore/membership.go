package raftstore

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"

	"github.com/hashicorp/raft"

	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/raftstore/transport"
	"github.com/chainstore/chainstore/wire"
)

// Found makes this master the founder of a group of members, of which it is one. The group exists when Found returns.
// The other members must be adopted then. A second call for the same group does nothing. The error wraps
// [ErrOtherGroup] if this master belongs to another group.
func (s *Store) Found(group string, members []wire.Member) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(members) == 0 {
		return errors.New("a group needs members")
	}
	return s.join(wire.Adoption{Group: group, Epoch: 1, Founding: members})
}

// Founding returns the members that the group was founded with. It returns nil unless this master founded the group
// or was adopted by its founder.
func (s *Store) Founding() []wire.Member {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.identity.Founding)
}

// Adopt makes this master part of a group permanently. The error wraps [ErrOtherMember] if the adoption is of another
// member than this master, and [ErrOtherGroup] if this master belongs to another group. A second call does nothing.
//
// The founding members are those of [Store.Found], given if the founder itself calls. They become the first entry of
// this master's log, as in the founder's: when the founder is lost right after, the group still knows its members.
func (s *Store) Adopt(a wire.Adoption) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a.Member != s.identity.ID {
		return fmt.Errorf("%w: %q, this is %q (a wiped data folder makes a new member)",
			ErrOtherMember, a.Member, s.identity.ID)
	}
	return s.join(a)
}

// join makes this master part of a group, unless it already is. The founding members are those of a new group, of which
// this master is one; they are empty for a group that exists. The caller holds mu.
func (s *Store) join(a wire.Adoption) error {
	group, founding := a.Group, a.Founding
	s.callsMu.Lock()
	closing := s.closing
	s.callsMu.Unlock()
	if closing {
		return ErrClosed
	}
	if err := s.fail.get(); err != nil {
		return err
	}
	switch own := s.identity.Group; {
	case own == group && group != "":
		return nil
	case own != "":
		return fmt.Errorf("%w: %q, not %q", ErrOtherGroup, own, group)
	case group == "" || a.Epoch == 0:
		return errors.New("a group needs an id and an epoch")
	}
	if len(founding) > 0 {
		if err := checkMembers(group, founding, s.id); err != nil {
			return err
		}
	}
	// A new group has no member with an older program. Below the level, the log moves at the first start after the
	// level was raised.
	if (len(founding) > 0 || a.Level >= masterfsm.LevelSegments) && s.identity.Version == logInDatabase {
		if err := s.fail.guard(s.moveLog); err != nil {
			return err
		}
	}
	next := s.identity
	next.Group, next.Epoch, next.Founding = group, a.Epoch, slices.Clone(founding)
	if err := s.saveIdentity(next); err != nil {
		return err
	}
	return s.startRaft()
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
		if _, _, err := transport.SplitAddress(transport.ServerAddress(m.ID, m.Raft)); err != nil || len(m.ID) > 255 {
			return fmt.Errorf("%q is not a member id", m.ID)
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

// AddMember adds a member without a vote. Where the member exists, it gives it another raft address, and the member
// keeps its vote. A second call does nothing. Only the leader can do it. Errors are those of [Store.Propose].
func (s *Store) AddMember(ctx context.Context, m wire.Member) error {
	address := transport.ServerAddress(m.ID, m.Raft)
	if _, _, err := transport.SplitAddress(address); err != nil || len(m.ID) > 255 {
		return fmt.Errorf("%q at %q cannot be a member: it needs an id and host:port", m.ID, m.Raft)
	}
	return s.change(ctx, func(r *raft.Raft) (raft.IndexFuture, error) {
		server, found := serverOf(r, m.ID)
		switch {
		case found && server.Address == address:
			return nil, nil
		case found && server.Suffrage == raft.Voter:
			return r.AddVoter(server.ID, address, 0, 0), nil
		}
		return r.AddNonvoter(raft.ServerID(m.ID), address, 0, 0), nil
	})
}

// Promote gives a member its vote. Only the leader can do it. Errors are those of [Store.Propose], and [ErrNoMember].
func (s *Store) Promote(ctx context.Context, id string) error {
	return s.change(ctx, func(r *raft.Raft) (raft.IndexFuture, error) {
		server, found := serverOf(r, id)
		switch {
		case !found:
			return nil, fmt.Errorf("%w: %q", ErrNoMember, id)
		case server.Suffrage == raft.Voter:
			return nil, nil
		}
		return r.AddVoter(server.ID, server.Address, 0, 0), nil
	})
}

// RemoveMember removes another member from the group; a member that does not exist is not an error. Only the leader
// can do it, and not to itself. Errors are those of [Store.Propose].
func (s *Store) RemoveMember(ctx context.Context, id string) error {
	if id == s.Member().ID {
		return errors.New("a leader does not remove itself: transfer the leadership first")
	}
	return s.change(ctx, func(r *raft.Raft) (raft.IndexFuture, error) {
		if _, found := serverOf(r, id); !found {
			return nil, nil
		}
		return r.RemoveServer(raft.ServerID(id), 0, 0), nil
	})
}

// change appends a change of the configuration to the log and waits until it is committed. begin returns no future
// if there is nothing to do. It may still run after change has returned.
func (s *Store) change(ctx context.Context, begin func(*raft.Raft) (raft.IndexFuture, error)) error {
	defer s.changed.notify()
	_, err := s.callLeader(ctx, func(r *raft.Raft) (any, error) {
		future, err := begin(r)
		if err != nil || future == nil {
			return nil, err
		}
		if err := future.Error(); err != nil {
			return nil, proposeError(err)
		}
		return nil, nil
	})
	return err
}

// addressOf returns the address of a member in raft's configuration, host:port, "" if it has none.
func (s *Store) addressOf(member string) string {
	r := s.raft.Load()
	if r == nil {
		return ""
	}
	server, _ := serverOf(r, member)
	_, hostPort, err := transport.SplitAddress(server.Address)
	if err != nil {
		return ""
	}
	return hostPort
}

// addresses returns the addresses of all members in raft's configuration, host:port.
func (s *Store) addresses() (all []string) {
	r := s.raft.Load()
	if r == nil {
		return nil
	}
	for _, server := range r.GetConfiguration().Configuration().Servers {
		if _, hostPort, err := transport.SplitAddress(server.Address); err == nil {
			all = append(all, hostPort)
		}
	}
	return all
}

// RaftCut returns how many connections to the raft port were closed for newer ones: see [transport.Stream.Cut].
func (s *Store) RaftCut() uint64 { return s.stream.Cut() }

// serverOf returns a member of raft's configuration.
func serverOf(r *raft.Raft, id string) (raft.Server, bool) {
	for _, server := range r.GetConfiguration().Configuration().Servers {
		if string(server.ID) == id {
			return server, true
		}
	}
	return raft.Server{}, false
}

// TransferLeadership transfers the leadership to a member, "" for the one whose log is the longest. The error wraps
// [ErrNotLeader] if this master does not lead, and [ErrNoMember] if the member cannot lead.
func (s *Store) TransferLeadership(to string) error {
	_, err := s.callRaft(context.Background(), ErrClosed, func(r *raft.Raft) (any, error) {
		if to == "" {
			return nil, r.LeadershipTransfer().Error()
		}
		server, found := serverOf(r, to)
		if !found || server.Suffrage != raft.Voter || to == s.id {
			return nil, fmt.Errorf("%w that can lead: %q", ErrNoMember, to)
		}
		return nil, r.LeadershipTransferToServer(server.ID, server.Address).Error()
	})
	switch {
	case errors.Is(err, raft.ErrNotLeader):
		return ErrNotLeader
	case err == nil, errors.Is(err, ErrNotLeader), errors.Is(err, ErrNoMember):
		return err
	}
	return fmt.Errorf("transfer the leadership: %w", err)
}

// Reaches reports whether a member answers raft's handshake now, at a raft address. If that is "", the addresses are
// the most recent one ([Store.UpdateAddress]) and the one in raft's configuration. It ends with ctx.
func (s *Store) Reaches(ctx context.Context, id, address string) bool {
	exact := address != ""
	if !exact {
		if address = s.addressOf(id); address == "" {
			return false
		}
	}
	return s.stream.AnnounceTo(ctx, id, address, exact) == nil
}

// UpdateAddress records the raft address of a member: see [transport.Stream.SetAddress].
func (s *Store) UpdateAddress(m wire.Member) { s.stream.SetAddress(m.ID, m.Raft) }

// Retire records that the group has removed this master: its folder does not open again.
func (s *Store) Retire() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := s.identity
	next.Removed = true
	return s.saveIdentity(next)
}
