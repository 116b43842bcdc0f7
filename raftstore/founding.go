package raftstore

import (
	"errors"
	"fmt"
	"net"
	"slices"

	"github.com/chainstore/chainstore/raftstore/transport"
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
		if _, _, err := transport.SplitAddress(transport.ServerAddress(m.ID, m.Raft)); err != nil || len(m.ID) > 255 {
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
