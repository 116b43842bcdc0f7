package masterfsm

import (
	"slices"

	"github.com/chainstore/chainstore/chain"
)

// View is what the leader's policy needs to know of the state: small, a copy, good after the state has moved on.
type View struct {
	Group    Group
	Level    uint64 // the group's protocol level
	Term     Term
	Settings Settings
	Now      uint64

	Head     Boundary
	HeldFrom uint64 // number of the first block that the masters hold
	Stored   uint64 // number of stored blocks
	Waiting  *chain.Header

	OpenBlock    uint64 // number of the open block
	OpenRecords  int
	OpenBytes    int
	OpenSince    uint64 // time of its first record
	Pending      int    // blocks that are cut and not stored
	PendingBytes uint64 // unstored bytes, the open buffer's among them

	Storages  []Storage
	Miners    []Miner
	Lost      []chain.Range // blocks that no node has a good copy of
	Confirmed []chain.Range // those that a person confirmed as lost

	Masters        []Master // by id
	RemovedMasters []string // ids of those that were taken out for good

	Log        Log        // never changed in place
	Checkpoint Boundary   // the newest that is stored
	Cosigned   []Cosigned // that of State.Cosigned
}

// View takes a view. It costs a few small copies, however many blocks and records there are.
func (s *State) View() View {
	v := View{
		Group: s.group, Level: s.level, Term: s.term, Settings: s.settings, Now: s.now,
		Head: s.Boundary(), HeldFrom: s.heldFrom(), Stored: s.stored,
		OpenBlock: s.open.number, OpenRecords: len(s.open.ends), OpenBytes: len(s.open.records), OpenSince: s.open.oldest,
		Pending: int(s.open.number - s.stored), PendingBytes: s.pendingBytes,
		Storages: slices.Clone(s.storages), Miners: slices.Clone(s.miners),
		Lost: s.story.Lost, Confirmed: s.story.Confirmed,
		Masters: s.masters, RemovedMasters: s.removedMasters, Log: s.log, Cosigned: s.cosigned, // never changed in place
		Checkpoint: s.checkpoint,
	}
	if s.waiting != nil {
		header := s.waiting.header
		v.Waiting = &header
	}
	return v
}

// NextIndex is the leaf index that the next record gets: positions from here on are not given out.
func (s *State) NextIndex() uint64 { return s.open.first + uint64(len(s.open.ends)) }

// Height is the number of blocks that are cut, mined or not; the open block has this number.
func (s *State) Height() uint64 { return s.open.number }

// Master is the entry of a master, zero if there is none.
func (v *View) Master(id string) Master {
	for i := range v.Masters {
		if v.Masters[i].ID == id {
			return v.Masters[i]
		}
	}
	return Master{}
}

// Storage is the entry of a storage node, zero if there is none.
func (v *View) Storage(id string) Storage {
	for i := range v.Storages {
		if v.Storages[i].ID == id {
			return v.Storages[i]
		}
	}
	return Storage{}
}
