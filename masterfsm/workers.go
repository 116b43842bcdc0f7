package masterfsm

import (
	"fmt"
	"slices"
	"strings"

	"github.com/chainstore/chainstore/chain"
)

// Role tells what a worker does.
type Role string

// The roles of workers.
const (
	RoleStorage Role = "storage"
	RoleMiner   Role = "miner"
)

// NodeState is the state of a storage node (design, section 6).
type NodeState string

// The states of a storage node.
const (
	Valid      NodeState = "valid"
	Validating NodeState = "validating"
	Invalid    NodeState = "invalid"
	Sending    NodeState = "sending"
	Receiving  NodeState = "receiving"
)

// Keeps reports whether a node in this state counts as one that has the blocks it acknowledged.
func (n NodeState) Keeps() bool { return n == Valid || n == Validating || n == Sending }

// Storage is a storage node.
type Storage struct {
	ID          string     `json:"id"`
	URL         string     `json:"url"`
	State       NodeState  `json:"state"`
	Version     uint64     `json:"version"` // goes up with each change of the state or the registration
	Height      uint64     `json:"height"`  // blocks that it is known to have on disk
	Cause       string     `json:"cause"`   // of the state, "" where there is nothing to tell
	Since       uint64     `json:"since"`   // when the state began, unix milliseconds
	MasterToken string     `json:"master_token"`
	AccessHash  chain.Hash `json:"access_hash"`
	Boot        string     `json:"boot"` // the worker's start that was judged
}

func (n *Storage) move(to NodeState, cause string, now uint64) {
	if n.State != to {
		n.Since = now
	}
	n.State, n.Cause = to, cause
	n.Version++
}

// Miner is a miner node.
type Miner struct {
	ID          string     `json:"id"`
	URL         string     `json:"url"`
	MasterToken string     `json:"master_token"`
	AccessHash  chain.Hash `json:"access_hash"`
}

// maxWorkers bounds the table; maxText its strings.
const (
	maxWorkers = 256
	maxText    = 1024
)

// transitions are the moves of a storage node that section 6 of the design allows.
var transitions = map[NodeState][]NodeState{
	Valid:      {Sending, Validating, Invalid},
	Sending:    {Valid, Invalid},
	Validating: {Valid, Invalid},
	Invalid:    {Receiving},
	Receiving:  {Valid, Invalid},
}

func (s *State) storage(id string) *Storage {
	i, ok := slices.BinarySearchFunc(s.storages, id, func(n Storage, id string) int { return strings.Compare(n.ID, id) })
	if !ok {
		return nil
	}
	return &s.storages[i]
}

func (c *SetState) apply(s *State) (any, error) {
	n := s.storage(c.ID)
	switch {
	case n == nil:
		return nil, fmt.Errorf("%w: %s", ErrUnknownNode, c.ID)
	case n.Version != c.Version:
		return nil, fmt.Errorf("%w: version %d of %s, the table has %d", ErrStale, c.Version, c.ID, n.Version)
	case !slices.Contains(transitions[n.State], c.State):
		return nil, fmt.Errorf("%w: %s cannot go from %s to %s", ErrStale, c.ID, n.State, c.State)
	case c.State.Keeps() && n.Height > s.head.Height:
		// Its height would count as blocks that are on disk, and those of the masters would be dropped for it.
		return nil, fmt.Errorf("%w: %s has %d blocks, the masters know of %d", ErrStale, c.ID, n.Height, s.head.Height)
	case len(c.Cause) > maxText:
		return nil, fmt.Errorf("%w: a cause of %d bytes", ErrBadCommand, len(c.Cause))
	}
	s.tick(c.Time)
	n.move(c.State, c.Cause, s.now)
	s.settle()
	return nil, nil
}

func (c *Register) apply(s *State) (any, error) {
	if c.ID == "" || c.URL == "" || len(c.ID) > maxText || len(c.URL) > maxText || len(c.MasterToken) > maxText || len(c.Boot) > maxText {
		return nil, fmt.Errorf("%w: a worker needs id and URL, of at most %d bytes each", ErrBadCommand, maxText)
	}
	switch c.Role {
	case RoleStorage:
		return s.registerStorage(c)
	case RoleMiner:
		return s.registerMiner(c)
	}
	return nil, fmt.Errorf("%w: unknown role %q", ErrBadCommand, c.Role)
}

func (s *State) registerStorage(c *Register) (any, error) {
	others := slices.DeleteFunc(slices.Clone(s.storages), func(n Storage) bool { return n.URL == c.URL && n.ID != c.ID })
	if s.storage(c.ID) == nil && len(others) >= maxWorkers {
		return nil, fmt.Errorf("%w: %d storage nodes are registered already", ErrBadCommand, maxWorkers)
	}
	s.tick(c.Time)
	s.storages = others
	n := s.storage(c.ID)
	if n == nil {
		s.storages = append(s.storages, Storage{ID: c.ID, Since: s.now})
		slices.SortFunc(s.storages, func(a, b Storage) int { return strings.Compare(a.ID, b.ID) })
		n = s.storage(c.ID)
	}
	n.URL, n.MasterToken, n.AccessHash, n.Boot = c.URL, c.MasterToken, c.AccessHash, c.Boot
	n.Height = c.Height
	state, cause := s.judge(c.Height, c.Hash)
	n.move(state, cause, s.now)
	s.settle()
	registered := *s.storage(c.ID)
	return &registered, nil
}

// judge says in which state a node boots that has height blocks, the last of that hash.
func (s *State) judge(height uint64, hash chain.Hash) (NodeState, string) {
	switch {
	case height > s.head.Height:
		return Invalid, fmt.Sprintf("alarm: it has %d blocks, the masters know of %d", height, s.head.Height)
	case height < s.heldFrom():
		return Invalid, fmt.Sprintf("behind: it has %d blocks, the masters hold them from %d on", height, s.heldFrom())
	case height == 0:
		return Valid, ""
	}
	b, ok := s.BoundaryAt(height)
	switch {
	case !ok:
		return Invalid, fmt.Sprintf("behind: height %d is older than the table remembers", height)
	case b.Hash != hash:
		return Invalid, fmt.Sprintf("another chain: block %d has another hash", height-1)
	}
	return Valid, ""
}

func (s *State) registerMiner(c *Register) (any, error) {
	miners := slices.DeleteFunc(slices.Clone(s.miners), func(m Miner) bool { return m.ID == c.ID || m.URL == c.URL })
	if len(miners) >= maxWorkers {
		return nil, fmt.Errorf("%w: %d miners are registered already", ErrBadCommand, maxWorkers)
	}
	s.tick(c.Time)
	m := Miner{ID: c.ID, URL: c.URL, MasterToken: c.MasterToken, AccessHash: c.AccessHash}
	s.miners = append(miners, m)
	slices.SortFunc(s.miners, func(a, b Miner) int { return strings.Compare(a.ID, b.ID) })
	return &m, nil
}

// Storages returns a copy of the storage nodes, by id.
func (s *State) Storages() []Storage { return slices.Clone(s.storages) }

// Miners returns a copy of the miners, by id.
func (s *State) Miners() []Miner { return slices.Clone(s.miners) }
