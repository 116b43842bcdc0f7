package raftstore

import (
	"errors"
	"fmt"
	"net"
	"slices"

	"github.com/chainstore/chainstore/raftstore/transport"
	"github.com/chainstore/chainstore/wire"
)

// Found makes this master the founder of a group of members, of which it is one. The group exists when Found returns.
// The other members must be adopted then. A second call for the same group does nothing. The error wraps
// [ErrOtherGroup] where this master belongs to another group.
func (s *Store) Found(group string, members []wire.Member) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(members) == 0 {
		return errors.New("a group needs members")
	}
	return s.join(group, 1, members)
}

// Founding returns the members that the group was founded with. It returns nil unless this master founded the group
// or was adopted by its founder.
func (s *Store) Founding() []wire.Member {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.identity.Founding)
}

// Adopt makes this master part of a group for ever. The error wraps [ErrOtherMember] where member is not the id of this
// master, and [ErrOtherGroup] where this master belongs to another group. A second call does nothing.
//
// founding are the members of [Store.Found], given where the founder itself calls. They become the first entry of this
// master's log, as in the founder's: when the founder is lost right after, the group still knows its members.
func (s *Store) Adopt(group string, epoch uint64, member string, founding ...wire.Member) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if member != s.identity.ID {
		return fmt.Errorf("%w: %q, this is %q (a wiped data folder makes a new member)",
			ErrOtherMember, member, s.identity.ID)
	}
	return s.join(group, epoch, founding)
}

// join makes this master part of a group, unless it already is. founding are the members of a new group, of which this
// master is one; they are empty for a group that exists. The caller holds mu.
func (s *Store) join(group string, epoch uint64, founding []wire.Member) error {
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
	case group == "" || epoch == 0:
		return errors.New("a group needs an id and an epoch")
	}
	if len(founding) > 0 {
		if err := checkMembers(group, founding, s.id); err != nil {
			return err
		}
	}
	next := s.identity
	next.Group, next.Epoch, next.Founding = group, epoch, slices.Clone(founding)
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
