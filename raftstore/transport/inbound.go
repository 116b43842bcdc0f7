package transport

import (
	"errors"
	"fmt"
	"math"
	"sync"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

const (
	// maxTermStep is how far the term of a request may be ahead. Terms count elections: that many take decades.
	maxTermStep = 1 << 32
	// maxIndex is more entries than a group ever has. Beyond it raft's arithmetic could wrap around.
	maxIndex = math.MaxUint64 / 4
	// maxName bounds the names in a request: a member's id, and its address.
	maxName = 1024
)

// errRequest: a request that no correct member sends.
var errRequest = errors.New("the request is refused: no correct master sends it")

// Inbound is raft's transport with a check of the requests that arrive. Raft panics at some of those that no correct
// member sends, and others would leave a term or a log with which it cannot go on.
type Inbound struct {
	*raft.NetworkTransport
	stream *Stream
	log    hclog.Logger
	room   func(bytes uint64) error // returns an error if a snapshot of that size does not fit on the disk
	good   chan raft.RPC
	closed chan struct{}
	once   sync.Once
}

// NewInbound returns raft's transport on a stream.
func NewInbound(config *raft.NetworkTransportConfig, s *Stream, room func(uint64) error) *Inbound {
	config.Stream = s
	i := &Inbound{
		NetworkTransport: raft.NewNetworkTransportWithConfig(config), stream: s, log: config.Logger, room: room,
		good: make(chan raft.RPC), closed: make(chan struct{}),
	}
	go i.checkAll()
	return i
}

// Consumer returns the requests that passed the check.
func (i *Inbound) Consumer() <-chan raft.RPC { return i.good }

// SetHeartbeatHandler sets a function for heartbeats, which pass by the channel of the others.
func (i *Inbound) SetHeartbeatHandler(handle func(raft.RPC)) {
	i.NetworkTransport.SetHeartbeatHandler(func(rpc raft.RPC) {
		if i.pass(rpc) {
			handle(rpc)
		}
	})
}

// Close closes the transport.
func (i *Inbound) Close() error {
	i.once.Do(func() { close(i.closed) })
	return i.NetworkTransport.Close()
}

func (i *Inbound) checkAll() {
	for {
		select {
		case rpc := <-i.NetworkTransport.Consumer():
			if !i.pass(rpc) {
				continue
			}
			select {
			case i.good <- rpc:
			case <-i.closed:
				return
			}
		case <-i.closed:
			return
		}
	}
}

// pass reports whether raft gets a request. If not, it has answered it.
func (i *Inbound) pass(rpc raft.RPC) bool {
	err := i.check(rpc.Command)
	if err == nil {
		return true
	}
	i.stream.warn("raft request refused", "error", err)
	if rpc.Reader != nil {
		i.stream.CloseRequests() // its state is on its way
	}
	rpc.Respond(nil, err)
	return false
}

// check checks a request.
func (i *Inbound) check(command any) error {
	current, _ := i.stream.cfg.Term()
	switch m := command.(type) {
	case *raft.AppendEntriesRequest:
		//lint:ignore SA1019 an older peer, or a hostile one, sets the deprecated field: it is bounded too
		if err := checkSender(m.RPCHeader, m.Leader, m.Term, current); err != nil {
			return err
		}
		if err := checkEntries(m); err != nil {
			return err
		}
		// Raft 1.7.3 would also commit entries that this master has behind those of the request, and that another
		// leader may have sent (figure 2 of the Raft paper: up to the last new entry).
		m.LeaderCommitIndex = min(m.LeaderCommitIndex, m.PrevLogEntry+uint64(len(m.Entries)))
		return nil
	case *raft.RequestVoteRequest:
		//lint:ignore SA1019 as above
		return checkSender(m.RPCHeader, m.Candidate, m.Term, current)
	case *raft.RequestPreVoteRequest:
		return checkSender(m.RPCHeader, nil, m.Term, current)
	case *raft.InstallSnapshotRequest:
		if err := checkSender(m.RPCHeader, m.Leader, m.Term, current); err != nil {
			return err
		}
		if m.Term < current {
			return fmt.Errorf("a snapshot of term %d, this master is at term %d", m.Term, current)
		}
		if err := checkSnapshot(m); err != nil {
			return err
		}
		if err := i.room(uint64(m.Size)); err != nil {
			return fmt.Errorf("a snapshot of %d bytes: %w", m.Size, err)
		}
		i.stream.admit(uint64(m.Size))
	}
	return nil
}

// checkSender checks what all requests have.
func checkSender(h raft.RPCHeader, old []byte, term, current uint64) error {
	if size := max(len(h.ID), len(h.Addr), len(old)); size > maxName {
		return fmt.Errorf("%w: a name of %d bytes", errRequest, size)
	}
	if term > current && term-current > maxTermStep {
		return fmt.Errorf("%w: it has term %d, this master is at term %d", errRequest, term, current)
	}
	return nil
}

// checkEntries checks that entries follow the previous one.
func checkEntries(m *raft.AppendEntriesRequest) error {
	if m.PrevLogEntry > maxIndex {
		return fmt.Errorf("%w: entries behind entry %d", errRequest, m.PrevLogEntry)
	}
	term := m.PrevLogTerm
	for n, l := range m.Entries {
		want := m.PrevLogEntry + 1 + uint64(n)
		switch {
		case l == nil:
			return fmt.Errorf("%w: entry %d is missing", errRequest, want)
		case l.Index != want:
			return fmt.Errorf("%w: entry %d in the place of entry %d", errRequest, l.Index, want)
		case l.Term < term || l.Term > m.Term:
			return fmt.Errorf("%w: entry %d has term %d, the one before it %d and the leader %d", errRequest, l.Index,
				l.Term, term, m.Term)
		case l.Type == raft.LogConfiguration:
			if err := checkConfiguration(l.Data); err != nil {
				return fmt.Errorf("entry %d: %w", l.Index, err)
			}
		case l.Type != raft.LogCommand && l.Type != raft.LogNoop && l.Type != raft.LogBarrier:
			return fmt.Errorf("%w: entry %d is of type %d", errRequest, l.Index, l.Type)
		}
		term = l.Term
	}
	return nil
}

// checkSnapshot checks what comes before the state of a snapshot.
func checkSnapshot(m *raft.InstallSnapshotRequest) error {
	if m.SnapshotVersion != raft.SnapshotVersionMax {
		return fmt.Errorf("%w: a snapshot of version %d", errRequest, m.SnapshotVersion)
	}
	if m.Size < 0 || m.LastLogIndex == 0 || m.LastLogIndex > maxIndex || m.ConfigurationIndex > m.LastLogIndex ||
		m.LastLogTerm > m.Term {
		return fmt.Errorf("%w: a snapshot of %d bytes up to entry %d of term %d, with the members of entry %d, "+
			"in term %d", errRequest, m.Size, m.LastLogIndex, m.LastLogTerm, m.ConfigurationIndex, m.Term)
	}
	return checkConfiguration(m.Configuration)
}

// checkConfiguration checks the members. Raft panics if it cannot decode them.
func checkConfiguration(data []byte) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: %v", errRequest, r)
		}
	}()
	for _, s := range raft.DecodeConfiguration(data).Servers {
		if s.Suffrage == raft.Voter {
			return nil
		}
	}
	return fmt.Errorf("%w: no member has a vote", errRequest)
}
