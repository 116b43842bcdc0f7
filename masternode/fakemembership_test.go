package masternode

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/wire"
)

// fakeMembership is the raft configuration as one master sees it. It asserts that nobody is given a vote who is no member, and that nobody
// removes itself.
type fakeMembership struct {
	mu      sync.Mutex // guards all below
	self    wire.Member
	members []wire.Master
	applied func() uint64 // nil for 0
	handed  []string      // to whom the leadership was to go
	met     []wire.Member
	retired bool
	refused error // why this master takes part in nothing
	fail    error // of the next change
	// reaches tells whether a member is there, at a raft address or anywhere; nil for all.
	reaches func(id, address string) bool
}

// newFakeMembership is a group of one voter.
func newFakeMembership() *fakeMembership {
	self := wire.Member{ID: "m1", URL: "http://m1", Raft: "m1:1", Group: "cs-test", Epoch: 1}
	return &fakeMembership{self: self, members: []wire.Master{{ID: self.ID, Raft: self.Raft, State: "leader", Voter: true}}}
}

func (f *fakeMembership) Member() wire.Member {
	f.mu.Lock()
	defer f.mu.Unlock()
	m := f.self
	if f.applied != nil {
		m.Applied = f.applied()
	}
	return m
}

func (f *fakeMembership) Members() []wire.Master {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.members)
}

// find is the place of a member, -1 where there is none. mu is held.
func (f *fakeMembership) find(id string) int {
	return slices.IndexFunc(f.members, func(m wire.Master) bool { return m.ID == id })
}

// failing gives the error that is due, once. mu is held.
func (f *fakeMembership) failing() error {
	err := f.fail
	f.fail = nil
	return err
}

func (f *fakeMembership) AddMember(_ context.Context, m wire.Member) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.failing(); err != nil {
		return err
	}
	if i := f.find(m.ID); i >= 0 {
		f.members[i].Raft = m.Raft
		return nil
	}
	f.members = append(f.members, wire.Master{ID: m.ID, Raft: m.Raft, State: "follower"})
	return nil
}

func (f *fakeMembership) Promote(_ context.Context, id string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	i := f.find(id)
	if i < 0 {
		return fmt.Errorf("%s is no member", id)
	}
	f.members[i].Voter = true
	return nil
}

func (f *fakeMembership) RemoveMember(_ context.Context, id string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if id == f.self.ID {
		return errors.New("a leader that removes itself")
	}
	if err := f.failing(); err != nil {
		return err
	}
	f.members = slices.DeleteFunc(f.members, func(m wire.Master) bool { return m.ID == id })
	return nil
}

func (f *fakeMembership) TransferLeadership(to string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.handed = append(f.handed, to)
	return f.failing()
}

func (f *fakeMembership) Reaches(_ context.Context, id, address string) bool {
	f.mu.Lock()
	reaches := f.reaches
	f.mu.Unlock()
	return reaches == nil || reaches(id, address)
}

func (f *fakeMembership) Meet(m wire.Member) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.met = append(f.met, m)
}

func (f *fakeMembership) Adopt(group string, epoch uint64, id string, _ ...wire.Member) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if id != f.self.ID || f.self.Group != "" {
		return fmt.Errorf("adopted as %s by %s", id, group)
	}
	f.self.Group, f.self.Epoch = group, epoch
	return nil
}

func (f *fakeMembership) Refused() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.refused
}

func (f *fakeMembership) Retire() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.retired = true
	return nil
}

// groupMasters answers for other masters: who is where.
type groupMasters struct {
	noMasters
	mu        sync.Mutex // guards all below
	at        map[string]wire.Member
	older     map[string]bool // members whose program knows protocol level 0 alone
	announced []string        // URLs that were announced to
	answer    wire.Announced
	err       error
}

func (g *groupMasters) Member(_ context.Context, url string) (wire.Member, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	m, ok := g.at[url]
	if !ok {
		return wire.Member{}, errNoMaster
	}
	if !g.older[m.ID] {
		m.Level = masterfsm.ProtocolLevel
	}
	return m, nil
}

func (g *groupMasters) Announce(_ context.Context, url string, m wire.Member, _ bool) (wire.Announced, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if m.Signs || m.Level != 0 {
		return wire.Announced{}, errors.New("a field that masters of before refuse")
	}
	g.announced = append(g.announced, url)
	return g.answer, g.err
}
