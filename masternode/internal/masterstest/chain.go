package masterstest

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/masterfsm"
)

// Chain is a group whose records are mined and stored on all of its storage nodes. It has no master: the test applies
// the commands itself.
type Chain struct {
	Ledger   *Ledger
	Workers  *Workers
	Payloads [][]byte

	t    *testing.T
	time uint64
}

// NewChain stores a number of records in blocks of maxRecords; the last block may have fewer. The state holds no body
// of a stored block.
func NewChain(t *testing.T, storages, records int, maxRecords uint32) *Chain {
	t.Helper()
	c := &Chain{Ledger: NewLedger(t), Workers: NewWorkers(t, storages), t: t}
	c.Ledger.Leads = true
	settings := masterfsm.DefaultSettings()
	settings.Difficulty, settings.MaxRecords, settings.RetainBytes = 4, maxRecords, 0
	c.propose(&masterfsm.BeginTerm{
		Term: 1, Member: "m1", URL: "http://m1", Time: c.now(), Group: "cs-test", Settings: settings,
	})
	c.propose(&masterfsm.AddLogKey{ // a checkpoint needs one
		Origin: "test", Public: chain.Hash{1}, Sealed: make([]byte, masterfsm.SealedLogKey), First: true, Time: c.now(),
	})
	for url := range c.Workers.Storages {
		c.propose(&masterfsm.Register{
			Role: masterfsm.RoleStorage, ID: strings.TrimPrefix(url, "http://"), URL: url, MasterToken: "x", Boot: "1",
			Time: c.now(),
		})
	}
	project := c.propose(&masterfsm.CreateProject{Name: "p", Time: c.now()}).(*masterfsm.Project)
	for i := range records {
		r := chain.Record{Project: project.ID, Payload: []byte{byte(i), byte(i >> 8), 7}}
		encoded := r.AppendTo(nil)
		s := masterfsm.NewSubmission(nil, "m1", 1, uint64(i+1))
		s.StartRequest(project.ID, masterfsm.Digest{}, masterfsm.Digest{})
		s.AddEncoded(chain.EncodedCommit(encoded), encoded)
		c.command(masterfsm.EncodeAppend(c.now(), masterfsm.Leadership{Term: 1}, s.Bytes()))
		c.Payloads = append(c.Payloads, r.Payload)
	}
	if v := c.view(); v.OpenRecords > 0 {
		c.propose(&masterfsm.Cut{Block: v.OpenBlock, Time: c.now()})
	}
	for v := c.view(); v.Waiting != nil; v = c.view() {
		c.mine(v)
	}
	return c
}

// mine mines the waiting block, and stores it on all storage nodes.
func (c *Chain) mine(v masterfsm.View) {
	c.t.Helper()
	nonce, ok := chain.Solve(v.Waiting.Inner(), v.Waiting.Difficulty, 0, 1<<20)
	if !ok {
		c.t.Fatal("no nonce")
	}
	c.propose(&masterfsm.Mined{Block: v.Waiting.Block, Nonce: nonce, Time: c.now()})
	var block chain.Block
	c.Ledger.Read(func(s *masterfsm.State) { block, ok = s.Block(v.Waiting.Block) })
	if !ok {
		c.t.Fatalf("block %d is not held", v.Waiting.Block)
	}
	stored := &masterfsm.Acknowledge{Time: c.now()}
	for _, n := range c.view().Storages {
		b, err := chain.ParseBlock(slices.Clone(block.Bytes()))
		if err == nil {
			err = c.Workers.Storages[n.URL].Add(b)
		}
		if err != nil {
			c.t.Fatal(err)
		}
		height := masterfsm.NodeHeight{ID: n.ID, Version: n.Version, Height: v.Waiting.Block + 1}
		stored.Nodes = append(stored.Nodes, height)
	}
	c.propose(stored)
}

// Lose damages blocks on all storage nodes, and runs a check on each, which finds them.
func (c *Chain) Lose(blocks ...uint64) {
	c.t.Helper()
	var bad []chain.Range
	for _, b := range blocks {
		bad = chain.AddRange(bad, chain.Range{From: b, To: b + 1})
		for url := range c.Workers.Storages {
			c.On(url, func(s *Storage) { s.Bad[b] = true })
		}
	}
	for i := range c.view().Storages {
		n := c.view().Storages[i]
		c.propose(&masterfsm.Suspect{ID: n.ID, Cause: masterfsm.TextCause("test"), Time: c.now()})
		c.propose(&masterfsm.BeginCheck{ID: n.ID, Version: c.view().Storages[i].Version, Time: c.now()})
		c.propose(&masterfsm.EndCheck{ID: n.ID, Version: c.view().Storages[i].Version, Bad: bad, Time: c.now()})
	}
}

// ConfirmLost records the administrator's confirmation that blocks are lost.
func (c *Chain) ConfirmLost(blocks ...uint64) {
	c.t.Helper()
	for _, b := range blocks {
		c.propose(&masterfsm.ConfirmLost{Block: b, Time: c.now()})
	}
}

// Checkpoint returns the newest stored block boundary.
func (c *Chain) Checkpoint() (b masterfsm.Boundary) {
	c.Ledger.Read(func(s *masterfsm.State) { b = s.Checkpoint() })
	return b
}

// On calls f with a storage node under its lock.
func (c *Chain) On(url string, f func(*Storage)) {
	s := c.Workers.Storages[url]
	s.Mu.Lock()
	defer s.Mu.Unlock()
	f(s)
}

func (c *Chain) view() (v masterfsm.View) {
	c.Ledger.Read(func(s *masterfsm.State) { v = s.View() })
	return v
}

func (c *Chain) now() uint64 {
	c.time++
	return c.time
}

func (c *Chain) propose(command masterfsm.Command) any {
	c.t.Helper()
	return c.command(c.Ledger.Encode(command))
}

func (c *Chain) command(command []byte) any {
	c.t.Helper()
	result, err := c.Ledger.Propose(context.Background(), command)
	if err != nil {
		c.t.Fatalf("%T: %v", command, err)
	}
	return result
}
