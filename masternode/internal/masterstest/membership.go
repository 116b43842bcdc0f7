package masterstest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/chainstore/chainstore/wire"
)

// Membership is raft's configuration from the view of one master. It checks that only members get a vote, and that no
// master removes itself.
type Membership struct {
	Mu         sync.Mutex // guards all below
	Self       wire.Member
	List       []wire.Master
	OnApplied  func() uint64 // nil for 0
	Handed     []string      // targets of leadership transfers
	OnHanded   func()        // called after a transfer; nil for nothing
	Met        []wire.Member
	Retired    bool
	RefusedErr error // why this master is refused
	Fail       error // of the next change
	// ReachesMember reports whether a member can be reached at a raft address; "" means any address. nil means that all
	// can.
	ReachesMember func(id, address string) bool
}

// NewMembership returns a group of one voter.
func NewMembership() *Membership {
	self := wire.Member{ID: "m1", URL: "http://m1", Raft: "m1:1", Group: "cs-test", Epoch: 1}
	return &Membership{Self: self, List: []wire.Master{{ID: self.ID, Raft: self.Raft, State: "leader", Voter: true}}}
}

func (f *Membership) Member() wire.Member {
	f.Mu.Lock()
	defer f.Mu.Unlock()
	m := f.Self
	if f.OnApplied != nil {
		m.Applied = f.OnApplied()
	}
	return m
}

func (f *Membership) Members() []wire.Master {
	f.Mu.Lock()
	defer f.Mu.Unlock()
	return slices.Clone(f.List)
}

// find returns the index of a member, -1 if there is none. The caller holds Mu.
func (f *Membership) find(id string) int {
	return slices.IndexFunc(f.List, func(m wire.Master) bool { return m.ID == id })
}

// failing returns the error that is due, once. The caller holds Mu.
func (f *Membership) failing() error {
	err := f.Fail
	f.Fail = nil
	return err
}

func (f *Membership) AddMember(_ context.Context, m wire.Member) error {
	f.Mu.Lock()
	defer f.Mu.Unlock()
	if err := f.failing(); err != nil {
		return err
	}
	if i := f.find(m.ID); i >= 0 {
		f.List[i].Raft = m.Raft
		return nil
	}
	f.List = append(f.List, wire.Master{ID: m.ID, Raft: m.Raft, State: "follower"})
	return nil
}

func (f *Membership) Promote(_ context.Context, id string) error {
	f.Mu.Lock()
	defer f.Mu.Unlock()
	i := f.find(id)
	if i < 0 {
		return fmt.Errorf("%s is no member", id)
	}
	f.List[i].Voter = true
	return nil
}

func (f *Membership) RemoveMember(_ context.Context, id string) error {
	f.Mu.Lock()
	defer f.Mu.Unlock()
	if id == f.Self.ID {
		return errors.New("a leader that removes itself")
	}
	if err := f.failing(); err != nil {
		return err
	}
	f.List = slices.DeleteFunc(f.List, func(m wire.Master) bool { return m.ID == id })
	return nil
}

func (f *Membership) TransferLeadership(to string) error {
	f.Mu.Lock()
	f.Handed = append(f.Handed, to)
	handed, err := f.OnHanded, f.failing()
	f.Mu.Unlock()
	if handed != nil {
		handed()
	}
	return err
}

func (f *Membership) Reaches(_ context.Context, id, address string) bool {
	f.Mu.Lock()
	reaches := f.ReachesMember
	f.Mu.Unlock()
	return reaches == nil || reaches(id, address)
}

func (f *Membership) UpdateAddress(m wire.Member) {
	f.Mu.Lock()
	defer f.Mu.Unlock()
	f.Met = append(f.Met, m)
}

func (f *Membership) Adopt(a wire.Adoption) error {
	f.Mu.Lock()
	defer f.Mu.Unlock()
	if a.Member != f.Self.ID || f.Self.Group != "" {
		return fmt.Errorf("adopted as %s by %s", a.Member, a.Group)
	}
	f.Self.Group, f.Self.Epoch = a.Group, a.Epoch
	return nil
}

func (f *Membership) Refused() error {
	f.Mu.Lock()
	defer f.Mu.Unlock()
	return f.RefusedErr
}

func (f *Membership) Retire() error {
	f.Mu.Lock()
	defer f.Mu.Unlock()
	f.Retired = true
	return nil
}
