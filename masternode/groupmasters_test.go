package masternode

import (
	"context"
	"errors"
	"sync"

	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/masternode/internal/masterstest"
	"github.com/chainstore/chainstore/wire"
)

// masterAt returns a network with one master.
func masterAt(url string, m masterstest.Master) *masterstest.Masters {
	masters := masterstest.NewMasters()
	masters.Set(url, m)
	return masters
}

// groupMasters is a network with the other masters of a group, which do not lead and accept every announcement.
type groupMasters struct {
	*masterstest.Masters
	mu        sync.Mutex // guards the fields below
	at        map[string]wire.Member
	levels    map[string]uint64             // of members whose program knows a different protocol level
	clocks    map[string]*masterstest.Clock // by id
	disks     map[string]wire.Disk          // by id; none if a master does not say
	flags     map[string]wire.AccessFlags   // by id; none if a master does not say
	certs     map[string]*wire.Certificate  // by id; none if a master does not say
	announced []string                      // URLs that received an announcement
}

func newGroupMasters() *groupMasters {
	return &groupMasters{
		Masters: masterstest.NewMasters(), at: map[string]wire.Member{}, levels: map[string]uint64{},
		clocks: map[string]*masterstest.Clock{"m2": {}, "m3": {}, "m4": {}},
		disks:  map[string]wire.Disk{}, flags: map[string]wire.AccessFlags{},
		certs: map[string]*wire.Certificate{},
	}
}

// set puts a master at its URL.
func (g *groupMasters) set(m wire.Member) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.at[m.URL] = m
	g.Set(m.URL, groupMaster{Follower: masterstest.Follower{Self: m}, group: g})
}

// away removes a master from its usual URL.
func (g *groupMasters) away(id string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.at, "http://"+id)
	g.Set("http://"+id, nil)
}

// setLevel sets the protocol level that the program of a member knows.
func (g *groupMasters) setLevel(id string, level uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.levels[id] = level
}

// reaches reports whether raft reaches a master at an address; "" means any address.
func (g *groupMasters) reaches(id, address string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, m := range g.at {
		if m.ID == id && (address == "" || m.Raft == address) {
			return true
		}
	}
	return false
}

// groupMaster is a master of groupMasters.
type groupMaster struct {
	masterstest.Follower
	group *groupMasters
}

func (m groupMaster) Member() wire.Member {
	m.group.mu.Lock()
	defer m.group.mu.Unlock()
	self := m.Self
	self.Level = masterfsm.ProtocolLevel
	if self.Key == "" {
		self.Key = keyOf(self.ID).Public()
	}
	if level, other := m.group.levels[self.ID]; other {
		self.Level = level
	}
	self.Disk, self.Flags = m.group.disks[self.ID], m.group.flags[self.ID]
	self.Certificate = m.group.certs[self.ID]
	if clock := m.group.clocks[self.ID]; clock != nil {
		self.Time = uint64(max(1, clock.Now().UnixMilli()))
	}
	return self
}

func (m groupMaster) Announce(_ context.Context, announced wire.Member, _ bool) (wire.Announced, error) {
	m.group.mu.Lock()
	defer m.group.mu.Unlock()
	if announced.Signs || announced.Level != 0 || announced.Time != 0 ||
		announced.Disk != (wire.Disk{}) || announced.Flags != (wire.AccessFlags{}) ||
		announced.Certificate != nil || announced.Key != "" {
		return wire.Announced{}, errors.New("earlier masters refuse these fields")
	}
	m.group.announced = append(m.group.announced, m.Self.URL)
	return wire.Announced{}, nil
}
