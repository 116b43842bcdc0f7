package masternode

import (
	"context"
	"errors"
	"sync"

	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/wire"
)

// groupMasters replies to calls in place of the other masters. It knows the master at each URL.
type groupMasters struct {
	noMasters
	mu        sync.Mutex // guards the fields below
	at        map[string]wire.Member
	levels    map[string]uint64 // of members whose program knows a different protocol level
	announced []string          // URLs that received an announcement
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
	m.Level = masterfsm.ProtocolLevel
	if level, other := g.levels[m.ID]; other {
		m.Level = level
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
